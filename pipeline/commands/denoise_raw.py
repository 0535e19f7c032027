"""The part of ``unveil denoise`` that serves models trained on raw: raw files in, DNGs out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.data.folders import SourceFile

if TYPE_CHECKING:
    from pipeline.inference.outputs import OutputOptions
    from pipeline.inference.spread import Spread


def run_raw(
    files: Sequence[SourceFile],
    model: str,
    out: Path,
    options: OutputOptions,
    *,
    attention: str | None,
    draws: int | None,
    offset: str | None,
    device: str,
    spread: Spread,
    dry_run: bool,
    json_output: bool,
) -> int:
    """Denoise raw files with a model trained on raw, tell what became of them, and return the exit code."""
    from pipeline.console import console, file_progress, print_json, tell_lines
    from pipeline.data.allocator import keep_freed_memory
    from pipeline.data.paths import shown
    from pipeline.errors import UserError
    from pipeline.inference.denoiser import NetworkDenoiser, load_denoiser
    from pipeline.inference.files import made_with
    from pipeline.inference.manifest import kept
    from pipeline.inference.modes import in_words, with_mode
    from pipeline.inference.raw_denoiser import RawDenoiser
    from pipeline.inference.raw_files import denoise_raw_files, plan_raw_outputs, raws_among

    if offset not in (None, "keep"):
        raise UserError(f"--offset: expected keep with a model trained on raw, found {offset!r}")
    raws, left_out = raws_among(files)
    outputs = plan_raw_outputs(raws, out, options)
    keep_freed_memory()
    network, warning = with_mode(load_denoiser(model, device), attention=attention, draws=draws)
    assert isinstance(network, NetworkDenoiser)
    denoiser = RawDenoiser(network)
    notes = [note for note in (left_out, warning) if note]
    for note in notes:
        console.print(f"note: {note}", markup=False, style="yellow", soft_wrap=True)
    if dry_run:
        from pipeline.commands.denoise_plan import run_dry
        from pipeline.inference.dry_run import measured_speed

        speed = measured_speed(denoiser)
        return run_dry(raws, outputs, out, options, made_with(network, options), speed, json_output=json_output)
    with (
        kept(out, made_with(network, options), outputs) as manifest,
        file_progress("denoise", len(raws)) as tell,
    ):
        summary = denoise_raw_files(
            raws, outputs, denoiser, options, spread=spread, manifest=manifest, on_progress=tell
        )
    mode = network.describe()
    if json_output:
        tell_lines(summary.failures())
        print_json({**summary.to_dict(), "mode": mode, "warning": "; ".join(notes) or None})
    else:
        tell_lines(summary.told(shown(out)))
        console.print(f"{in_words(mode)}: {mode['passes']} passes of the network", markup=False, soft_wrap=True)
    return summary.exit_code()
