"""The parts of a call of ``unveil denoise``: the files of each model, and what is said of all of them together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.console import console, file_progress, print_json, tell_lines
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

    run: Callable[[Told], FilesSummary]
    """Denoises them all; tells each file."""

    speed: Callable[[], Callable[[int], float] | None]
    """Measures how long a picture will take, for a dry run."""

    notes: Sequence[str] = ()


def split(files: Sequence[SourceFile]) -> list[tuple[str, list[SourceFile]]]:
    """Return the shipped model for each file where the user named none.

    Raw files go to the model for raws where one is shipped, else, developed, to that for pictures.
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

    def run(tell: Told) -> FilesSummary:
        return denoise_files(files, denoiser, out, options, spread=spread, on_progress=tell)

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
    for part in parts:
        for file, output in zip(part.files, part.outputs, strict=True):
            key = output.as_posix().casefold()
            if key in taken:
                raise UserError(
                    f"{shown(file.path)}: expected an output of its own, found that {shown(taken[key])} has the same "
                    f"one ({shown(output)}); denoise the two into different folders"
                )
        taken |= {
            output.as_posix().casefold(): file.path for file, output in zip(part.files, part.outputs, strict=True)
        }


def run_parts(parts: Sequence[Part], out: Path, *, threads: int, given: bool, json_output: bool) -> int:
    """Denoise all parts, tell what became of the files, and return the exit code."""
    from pipeline.inference.denoiser import NetworkDenoiser
    from pipeline.inference.modes import in_words

    summary = _denoised(parts)
    models = [_described(part, given=given) for part in parts]
    modes = [part.denoiser.describe() for part in parts if isinstance(part.denoiser, NetworkDenoiser)]
    notes = [note for part in parts for note in part.notes]
    if json_output:
        tell_lines(summary.failures())
        told = {"mode": modes[0] if modes else None, "threads": threads, "warning": "; ".join(notes) or None}
        print_json({**summary.to_dict(), **told, "models": models})
    else:
        tell_lines([*summary.told(shown(out)), *_noise_told(summary)])
        for mode in modes:
            if mode["passes"] > 1:
                console.print(f"{in_words(mode)}: {mode['passes']} passes of the network", markup=False, soft_wrap=True)
    return summary.exit_code()


def dry_parts(parts: Sequence[Part], out: Path, options: OutputOptions, *, json_output: bool) -> int:
    """Say what a run would do, write nothing, and return the exit code."""
    from pipeline.commands.denoise_plan import run_dry
    from pipeline.inference.dry_run import plan_files
    from pipeline.inference.manifest import Known

    planned = (
        one
        for part in parts
        for one in plan_files(part.files, part.outputs, options, Known(out, part.made_with), part.speed())
    )
    return run_dry(planned, out, json_output=json_output)


def _denoised(parts: Sequence[Part]) -> FilesSummary:
    """Run the parts one after the other; the files stand in the order of the sources."""
    done: list[FilesSummary] = []
    with file_progress("denoise", sum(len(part.files) for part in parts)) as tell:
        for part in parts:
            if done and done[-1].stopped:
                done.append(FilesSummary(files=(), stopped=True, left=len(part.files)))
                continue
            done.append(part.run(tell))
    if len(done) == 1:
        return done[0]
    files = sorted((file for one in done for file in one.files), key=lambda file: file.source)
    manifest = next((one.manifest for one in done if one.manifest), None)
    return replace(
        done[0],
        files=tuple(files),
        stopped=any(one.stopped for one in done),
        left=sum(one.left for one in done),
        manifest=manifest,
    )


def _noise_told(summary: FilesSummary) -> list[str]:
    """Say how strong the noise was that the networks met, and what is left; nothing where it is known of no file."""
    from statistics import median

    known = [file.residual for file in summary.files if file.residual is not None]
    if not known:
        return []
    before, after = (median(one[key] for one in known) for key in ("noise_before_255", "noise_after_255"))
    which = "" if len(known) == 1 else f" (median of {len(known)} files)"
    return [f"noise in flat areas: {before:.1f} of 255, {after:.1f} left{which}"]


def _is_raw(part: Part) -> bool:
    return getattr(part.denoiser, "domain", "display") == "raw"


def _described(part: Part, *, given: bool) -> dict[str, Any]:
    from pipeline.inference.denoiser import NetworkDenoiser
    from pipeline.inference.shipped import NAMES

    network = part.denoiser if isinstance(part.denoiser, NetworkDenoiser) else None
    return {
        "model": part.ref,
        "shipped": part.ref in NAMES,
        "chosen_by_default": not given,
        "files": len(part.files),
        "domain": network.domain if network else None,
        "sha256": network.sha256 if network else None,
        "mode": network.describe() if network else None,
    }
