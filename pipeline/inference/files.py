"""Denoise many files: the tree is mirrored, no input is ever written to, a bad file stops nobody."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from pipeline.data.failures import failure_line
from pipeline.data.folders import SourceFile
from pipeline.data.paths import shown
from pipeline.data.tiff_pages import pages_of
from pipeline.inference.denoiser import Denoiser, NetworkDenoiser, load_denoiser
from pipeline.inference.flight import flight_of
from pipeline.inference.interrupts import interruptible
from pipeline.inference.large import denoise_large
from pipeline.inference.manifest import Known, Manifest, kept
from pipeline.inference.offset import denoise_measured
from pipeline.inference.outputs import DEFAULT, OutputOptions, plan_outputs
from pipeline.inference.picture import joined, profile_note, read_picture
from pipeline.inference.residual import residual_of
from pipeline.inference.results import FileResult as FileResult
from pipeline.inference.results import FilesSummary as FilesSummary
from pipeline.inference.results import Made as Made
from pipeline.inference.results import Status
from pipeline.inference.shipped import reference_of
from pipeline.inference.spread import Spread
from pipeline.inference.stacks import denoise_stack
from pipeline.inference.staging import Convert, Staged, discard, stage
from pipeline.inference.written import write_denoised

if TYPE_CHECKING:
    from models import InferenceSpec

HERE = Spread(workers=0)
"""All files in this process."""

Listener = Callable[[FileResult], None]


class Job(NamedTuple):
    """One file that is to be made."""

    number: int
    """Place of its source among all sources."""

    source: Path
    output: Path


Work = Callable[[Iterable[Job]], Iterator[tuple[Job, Staged]]]
"""Makes the outputs of jobs under temporary names, in any order. A job is taken only when it can be begun."""


def denoise_files(
    sources: Sequence[SourceFile],
    denoiser: Denoiser,
    out: Path,
    options: OutputOptions = DEFAULT,
    *,
    outputs: Sequence[Path] | None = None,
    spread: Spread = HERE,
    on_progress: Listener | None = None,
) -> FilesSummary:
    """Denoise every source into ``out``, mirroring the tree; size, depth and metadata stay as they were.

    All output paths are planned and checked before the first file is read. What was made is written down in the
    manifest of ``out`` (`pipeline.inference.manifest`).

    Args:
        sources: what `pipeline.data.folders.scan` found.
        denoiser: called with each picture.
        out: folder to write to; created.
        options: names, formats and what is done about outputs that exist.
        outputs: of `plan_outputs`; None plans them.
        spread: whether worker processes help.
        on_progress: called after each file.

    Returns:
        What became of each file; a file that fails is listed and the rest goes on.

    Raises:
        UserError: as in `plan_outputs`, or ``out`` is not writable.
        RunError: the disk is full or read-only, so that no other file could succeed.
    """
    if outputs is None:
        outputs = plan_outputs(sources, out, options)
    convert = partial(_denoise_file, denoiser, options)
    with kept(out, made_with(denoiser, options), outputs) as manifest:
        work: Work = flight_of(denoiser, convert, identified=True)
        if isinstance(denoiser, NetworkDenoiser):
            build = partial(_elsewhere, reference_of(denoiser.folder), denoiser.inference, options, denoiser.tile)
            work = spread.over(work, build, gpu=denoiser.device != "cpu")
        return convert_files(sources, outputs, convert, options, work=work, manifest=manifest, on_progress=on_progress)


def convert_files(
    sources: Sequence[SourceFile],
    outputs: Sequence[Path],
    convert: Convert,
    options: OutputOptions = DEFAULT,
    *,
    work: Work | None = None,
    manifest: Manifest | None = None,
    hand_on: bool = False,
    on_progress: Listener | None = None,
) -> FilesSummary:
    """Make one output from each source; a file that fails is listed and the rest goes on.

    Ctrl-C and SIGTERM end it: what is finished stays, and nothing else is left.

    Args:
        sources: what is read.
        outputs: what is written, of `plan_outputs`.
        convert: called with the source and a temporary name of the output; raises what it cannot do.
        options: what is done about outputs that exist.
        work: makes the outputs in another way than by ``convert``, one after the other.
        manifest: says what is up to date, and is told what is made; None for folders without one.
        hand_on: whether another model takes what is nothing for this one: then it is `FilesSummary.unserved`, and
            neither failed nor told to anybody.
        on_progress: called after each file.

    Raises:
        RunError: the disk is full or read-only, so that no other file could succeed.
    """
    batch = _Batch(sources, outputs, options, manifest, hand_on, on_progress)
    stopped = False
    try:
        with interruptible():
            batch.run(work or partial(in_turn, convert, manifest is not None))
    except KeyboardInterrupt:
        stopped = True
    return batch.summary(stopped=stopped)


def made_with(denoiser: Denoiser, options: OutputOptions) -> dict[str, Any]:
    """Return what decides the bytes of an output besides its source, as JSON values."""
    how: dict[str, Any] = {"denoiser": type(denoiser).__name__}
    if isinstance(denoiser, NetworkDenoiser):
        from models import spec_to_dict

        how = {"model": denoiser.sha256, "inference": spec_to_dict(denoiser.inference)}
    return {**how, "options": options.content()}


def why_skipped(source: Path, output: Path, options: OutputOptions, known: Known | None) -> str | None:
    """Return None for a file to make; of one to skip the reason, which is empty if it is up to date.

    Args:
        source: what would be read.
        output: what would be written.
        options: what is done about outputs that exist.
        known: what was made in the output folder; None for folders without a manifest.
    """
    if options.skip_existing and known is not None:
        standing = known.standing(source, output)
        if standing == "current":
            return ""
        if standing == "foreign" and not options.overwrite:
            return f"{shown(output)}: exists and was not made here; pass --overwrite to replace it"
        return None
    if not options.overwrite and os.path.lexists(output):
        return f"{shown(output)}: exists; pass --overwrite to replace it"
    return None


class _Batch:
    """Decides which files are made, gives finished ones their names, and keeps what became of each."""

    def __init__(
        self,
        sources: Sequence[SourceFile],
        outputs: Sequence[Path],
        options: OutputOptions,
        manifest: Manifest | None,
        hand_on: bool,
        on_progress: Listener | None,
    ) -> None:
        self._jobs = [
            Job(number, source.path, output)
            for number, (source, output) in enumerate(zip(sources, outputs, strict=True))
        ]
        self._options, self._manifest, self._on_progress = options, manifest, on_progress
        self._hand_on = hand_on
        self._results: dict[int, FileResult] = {}
        self._unserved: dict[int, FileResult] = {}

    def run(self, work: Work) -> None:
        """Make what is to be made."""
        # Looked at one by one, when its turn comes: a hash takes time, and a bar should move meanwhile.
        for job, staged in work(self._wanted()):
            self._finish(job, staged)

    def summary(self, *, stopped: bool) -> FilesSummary:
        """Return what became of the files so far."""
        return FilesSummary(
            files=tuple(self._results[index] for index in sorted(self._results)),
            stopped=stopped,
            left=len(self._jobs) - len(self._results) - len(self._unserved),
            manifest=None if self._manifest is None else str(self._manifest.path),
            unserved=tuple(self._unserved[index] for index in sorted(self._unserved)),
        )

    def _wanted(self) -> Iterator[Job]:
        """Yield what is to be made; the rest is skipped."""
        for job in self._jobs:
            if (why := why_skipped(job.source, job.output, self._options, self._manifest)) is None:
                yield job
            else:
                self._keep(job, FileResult(status="skipped", error=why or None, **_paths(job)))

    def _finish(self, job: Job, staged: Staged) -> None:
        """Give an output its name, after the manifest was told: see there."""
        error = staged.error
        if staged.temporary is not None:
            try:
                self._note_made(job, staged)
                staged.temporary.replace(job.output)
            except OSError as problem:
                error = failure_line(problem, job.source, job.output)
            finally:
                discard(staged)
        facts = asdict(staged.made) if error is None else {}
        status: Status = "ok" if error is None else "failed"
        result = FileResult(status=status, error=error, seconds=staged.seconds, **facts, **_paths(job))
        if staged.unserved and self._hand_on:
            self._unserved[job.number] = result
            return
        if error is not None and self._manifest is not None:
            self._manifest.failed(job.source, job.output, error)
        self._keep(job, result)

    def _note_made(self, job: Job, staged: Staged) -> None:
        if self._manifest is None or staged.source_identity is None or staged.output_identity is None:
            return
        facts = {"seconds": staged.seconds, **asdict(staged.made)}
        told = {name: value for name, value in facts.items() if value is not None}
        self._manifest.made(job.source, job.output, staged.source_identity, staged.output_identity, told)

    def _keep(self, job: Job, result: FileResult) -> None:
        self._results[job.number] = result
        if self._on_progress is not None:
            self._on_progress(result)


def _paths(job: Job) -> dict[str, Any]:
    return {"source": str(job.source), "output": str(job.output)}


def in_turn(convert: Convert, identified: bool, jobs: Iterable[Job]) -> Iterator[tuple[Job, Staged]]:
    """Make the outputs of jobs one after the other."""
    for job in jobs:
        yield job, stage(convert, job.source, job.output, identified=identified)


def _elsewhere(ref: str, inference: InferenceSpec, options: OutputOptions, tile: int | None, device: str) -> Convert:
    """Return what makes the files in another process; weights and files lie where both see them."""
    denoiser = load_denoiser(ref, device).using(inference)
    denoiser.tile = tile
    return partial(_denoise_file, denoiser, options)


def _denoise_file(denoiser: Denoiser, options: OutputOptions, source: Path, output: Path) -> Made:
    large = denoise_large(denoiser, source, output, options)
    if large is not None:
        return large
    pages = pages_of(source)
    if pages is not None and pages.count > 1:
        note, offset = denoise_stack(source, output, pages, denoiser, options)
        return Made(note=note, offset=offset)
    picture = read_picture(source)
    denoised, offset = denoise_measured(denoiser, picture.seen)
    note = write_denoised(output, picture, denoised, options)
    note = joined(picture.note, profile_note(picture.image.metadata), note)
    return Made(note=note, offset=offset, residual=residual_of(picture.seen, denoised))
