"""The parts of a call of ``unveil denoise``: which model takes which files."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.console import console
from pipeline.data.paths import shown
from pipeline.errors import UserError
from pipeline.inference.results import FileResult, FilesSummary

if TYPE_CHECKING:
    from pipeline.data.folders import SourceFile
    from pipeline.inference.denoiser import Denoiser
    from pipeline.inference.outputs import OutputOptions
    from pipeline.inference.spread import Spread

Told = Callable[[FileResult], None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """Files that one model denoises."""

    ref: str
    """The model, as it was named."""

    files: Sequence[SourceFile]
    outputs: Sequence[Path]
    denoiser: Denoiser
    made_with: dict[str, Any]
    """What decides the bytes of an output, for the manifest."""

    run: Callable[[Sequence[SourceFile], Sequence[Path], Told], FilesSummary]
    """Denoises files of the part into their outputs; tells each file."""

    speed: Callable[[], Callable[[int], float] | None]
    """Measures how long a picture will take, for a dry run."""

    notes: Sequence[str] = ()

    fallback: Part | None = None
    """The same files, developed, for another model: it takes those that this one cannot serve."""

    def only(self, sources: Collection[Path]) -> Part:
        """Return the part with some of its files; outputs stay those that were planned among all."""
        kept = [pair for pair in zip(self.files, self.outputs, strict=True) if pair[0].path in sources]
        return replace(self, files=[file for file, _ in kept], outputs=[output for _, output in kept])


def split(files: Sequence[SourceFile]) -> list[tuple[str, list[SourceFile]]]:
    """Return the shipped model for each file where the user named none.

    Raw files go to the model for raws where one is shipped, else, developed, to that for pictures. Which of them are
    nothing for the first is seen when they are read: `fallback_part`.
    """
    from pipeline.inference.shipped import PICTURES, RAWS, is_shipped
    from raw.files import RAW_SUFFIXES

    parts: dict[str, list[SourceFile]] = {}
    for_raw = RAWS if is_shipped(RAWS) else PICTURES
    for file in files:
        ref = for_raw if file.relative.suffix.lower() in RAW_SUFFIXES else PICTURES
        parts.setdefault(ref, []).append(file)
    return sorted(parts.items())


def pictures_part(
    files: Sequence[SourceFile],
    ref: str,
    out: Path,
    options: OutputOptions,
    *,
    modes: dict[str, Any],
    device: str,
    spread: Spread,
    tile: int | None,
) -> Part:
    """Load a model for pictures; paths are checked before, so that a mistake in them does not cost the wait."""
    from pipeline.inference.denoiser import NetworkDenoiser, load_denoiser
    from pipeline.inference.dry_run import measured_speed
    from pipeline.inference.files import denoise_files, made_with
    from pipeline.inference.modes import with_mode
    from pipeline.inference.outputs import plan_outputs

    outputs = plan_outputs(files, out, options)
    denoiser, warning = with_mode(load_denoiser(ref, device), **modes)
    if isinstance(denoiser, NetworkDenoiser):
        denoiser.tile = tile

    def run(files: Sequence[SourceFile], outputs: Sequence[Path], tell: Told) -> FilesSummary:
        return denoise_files(files, denoiser, out, options, outputs=outputs, spread=spread, on_progress=tell)

    return Part(
        ref=ref,
        files=files,
        outputs=outputs,
        denoiser=denoiser,
        made_with=made_with(denoiser, options),
        run=run,
        speed=lambda: measured_speed(denoiser) if isinstance(denoiser, NetworkDenoiser) else None,
        notes=[warning] if warning else [],
    )


def fallback_part(
    raws: Sequence[SourceFile], files: Sequence[SourceFile], out: Path, options: OutputOptions, **how: Any
) -> Part | None:
    """Return the shipped model for pictures for those ``raws`` that the one for raws cannot serve.

    It is loaded before the first file is read, like every model: what is wrong with it should not cost the wait. An
    output has the name that ``--model default`` would give it among all ``files``, whichever of them need it: a
    second call finds it.

    Args:
        raws: raw files.
        files: all of the call.
        out: the output folder.
        options: what is written.
        how: of `pictures_part`.

    Returns:
        None if it is not shipped, or DNGs are asked for, which a developed picture cannot become.
    """
    from pipeline.inference.shipped import PICTURES, is_shipped

    if not is_shipped(PICTURES) or options.format == "dng":
        return None
    return pictures_part(files, PICTURES, out, options, **how).only({raw.path for raw in raws})


def announce(parts: Sequence[Part], *, given: bool, json_output: bool) -> None:
    """Say which model is used for what, and whether the user chose it; JSON has that itself, but for the notes."""
    from pipeline.inference.denoiser import NetworkDenoiser
    from pipeline.inference.shipped import NAMES

    for part in parts:
        count = f"{len(part.files)} {'raw ' if _is_raw(part) else ''}file{'s' if len(part.files) != 1 else ''}"
        what = ""
        if isinstance(part.denoiser, NetworkDenoiser):
            parameters = sum(value.numel() for value in part.denoiser.network.parameters())
            what = f", a {part.denoiser.spec.kind} of {parameters:,} parameters"
        origin = " (comes with unveil)" if part.ref in NAMES else ""
        why = "" if given else "; chosen by default, --model takes another"
        if not json_output:
            console.print(f"model: {shown(part.ref)}{origin}{what}, for {count}{why}", markup=False, soft_wrap=True)
        for note in part.notes:
            console.print(f"note: {note}", markup=False, style="yellow", soft_wrap=True)


def refuse_shared(parts: Sequence[Part]) -> None:
    """Raise UserError if files of two models would be written to the same place."""
    taken: dict[str, Path] = {}
    for part in [*parts, *(part.fallback for part in parts if part.fallback is not None)]:
        for file, output in zip(part.files, part.outputs, strict=True):
            other = taken.setdefault(output.as_posix().casefold(), file.path)
            if other != file.path:
                raise UserError(
                    f"{shown(file.path)}: expected an output of its own, found that {shown(other)} has the same "
                    f"one ({shown(output)}); denoise the two into different folders"
                )


def _is_raw(part: Part) -> bool:
    return getattr(part.denoiser, "domain", "display") == "raw"
