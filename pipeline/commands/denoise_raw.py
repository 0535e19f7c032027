"""The part of ``unveil denoise`` that serves models trained on raw: raw files in, DNGs out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.commands.denoise_parts import Part, Told
from pipeline.data.folders import SourceFile

if TYPE_CHECKING:
    from pipeline.inference.outputs import OutputOptions
    from pipeline.inference.results import FilesSummary
    from pipeline.inference.spread import Spread


def raw_part(
    files: Sequence[SourceFile],
    ref: str,
    out: Path,
    options: OutputOptions,
    *,
    modes: dict[str, Any],
    device: str,
    spread: Spread,
    fallback: Part | None = None,
) -> Part:
    """Load a model trained on raw for the raw files among ``files``; paths are checked before.

    What it cannot serve goes to ``fallback``, if there is one, and fails otherwise.
    """
    from pipeline.errors import UserError
    from pipeline.inference.denoiser import NetworkDenoiser, load_denoiser
    from pipeline.inference.dry_run import measured_speed
    from pipeline.inference.files import made_with
    from pipeline.inference.manifest import kept
    from pipeline.inference.modes import with_mode
    from pipeline.inference.raw_denoiser import RawDenoiser
    from pipeline.inference.raw_files import denoise_raw_files, plan_raw_outputs, raws_among

    if modes["offset"] not in (None, "keep"):
        raise UserError(f"--offset: expected keep with a model trained on raw, found {modes['offset']!r}")
    raws, left_out = raws_among(files)
    outputs = plan_raw_outputs(raws, out, options)
    network, warning = with_mode(load_denoiser(ref, device), **{**modes, "offset": None})
    assert isinstance(network, NetworkDenoiser)
    denoiser = RawDenoiser(network)
    facts = made_with(network, options)

    def run(files: Sequence[SourceFile], outputs: Sequence[Path], tell: Told) -> FilesSummary:
        with kept(out, facts, outputs) as manifest:
            return denoise_raw_files(
                files,
                outputs,
                denoiser,
                options,
                spread=spread,
                manifest=manifest,
                hand_on=fallback is not None,
                on_progress=tell,
            )

    return Part(
        ref=ref,
        files=raws,
        outputs=outputs,
        denoiser=network,
        made_with=facts,
        run=run,
        speed=lambda: measured_speed(denoiser),
        notes=[note for note in (left_out, warning) if note],
        fallback=fallback,
    )
