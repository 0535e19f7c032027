"""The parts of a call of ``unveil denoise`` at work, and what is said of all of them together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.commands.denoise_parts import Part
from pipeline.console import console, file_progress, print_json, tell_lines
from pipeline.data.paths import shown
from pipeline.inference.results import FilesSummary

if TYPE_CHECKING:
    from pipeline.inference.dry_run import Planned
    from pipeline.inference.outputs import OutputOptions


def run_parts(parts: Sequence[Part], out: Path, *, threads: int, given: bool, json_output: bool) -> int:
    """Denoise all parts, tell what became of the files, and return the exit code."""
    from pipeline.inference.denoiser import NetworkDenoiser
    from pipeline.inference.modes import in_words

    summary, used = _denoised(parts)
    models = [_described(part, given=given) for part in used]
    modes = [part.denoiser.describe() for part in used if isinstance(part.denoiser, NetworkDenoiser)]
    notes = dict.fromkeys(note for part in [*parts, *used] for note in part.notes)
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

    return run_dry((one for part in parts for one in _planned(part, out, options)), out, json_output=json_output)


def _planned(part: Part, out: Path, options: OutputOptions) -> Iterator[Planned]:
    """Say what would become of the files of a part; where another one may take them, they are decoded to see it."""
    from pipeline.data.images import ImageError
    from pipeline.inference.dry_run import plan_files
    from pipeline.inference.manifest import Known
    from pipeline.inference.raw_files import unserved_at_sight

    known, speed = Known(out, part.made_with), part.speed()
    unserved: dict[Path, str] = {}
    for one in plan_files(part.files, part.outputs, options, known, speed):
        source = Path(one.source)
        if part.fallback is not None and one.action in ("write", "replace"):
            try:
                reason = unserved_at_sight(source)
            except ImageError as error:
                yield replace(one, action="fail", reason=str(error), model=part.ref)
                continue
            if reason is not None:
                unserved[source] = reason
                continue
        yield replace(one, model=part.ref)
    if part.fallback is not None and unserved:
        for one in _planned(part.fallback.only(unserved), out, options):
            yield replace(one, fallback=unserved[Path(one.source)])


def _denoised(parts: Sequence[Part]) -> tuple[FilesSummary, list[Part]]:
    """Run the parts one after the other, and what takes the files that are nothing for their models.

    Returns:
        What became of the files, in the order of the sources if there are several models; and for each model that had
        any its part, with the files that it had in the end.
    """
    waiting = list(parts)
    reasons: dict[str, str] = {}
    done: list[FilesSummary] = []
    used: dict[str, Part] = {}
    with file_progress("denoise", sum(len(part.files) for part in parts)) as tell:
        while waiting:
            part = waiting.pop(0)
            if done and done[-1].stopped:
                one = FilesSummary(files=(), stopped=True, left=len(part.files))
            else:
                one = part.run(part.files, part.outputs, tell)
            if part.fallback is not None and one.unserved:
                unserved = {Path(file.source): file.reason() for file in one.unserved}
                reasons |= {file.source: file.reason() for file in one.unserved}
                waiting.insert(0, part.fallback.only(unserved))
                part = part.only({file.path for file in part.files} - unserved.keys())
            files = tuple(replace(file, model=part.ref, fallback=reasons.get(file.source)) for file in one.files)
            done.append(replace(one, files=files, unserved=()))
            if part.files:
                have = used.get(part.ref, part.only(()))
                used[part.ref] = replace(have, files=[*have.files, *part.files], outputs=[*have.outputs, *part.outputs])
    if len(done) == 1:
        return done[0], list(used.values())
    files = tuple(sorted((file for one in done for file in one.files), key=lambda file: file.source))
    whole = replace(
        done[0],
        files=files,
        stopped=any(one.stopped for one in done),
        left=sum(one.left for one in done),
        manifest=next((one.manifest for one in done if one.manifest), None),
    )
    return whole, [used[ref] for ref in sorted(used)]


def _noise_told(summary: FilesSummary) -> list[str]:
    """Say how strong the noise was that the networks met, and what is left; nothing where it is known of no file."""
    from statistics import median

    known = [file.residual for file in summary.files if file.residual is not None]
    if not known:
        return []
    before, after = (median(one[key] for one in known) for key in ("noise_before_255", "noise_after_255"))
    which = "" if len(known) == 1 else f" (median of {len(known)} files)"
    return [f"noise in flat areas: {before:.1f} of 255, {after:.1f} left{which}"]


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
