"""What a model was validated with: the mode and the numbers of an evaluation, kept in the model's card."""

from __future__ import annotations

from typing import Any

from pipeline.data.paths import shown
from pipeline.errors import UserError
from pipeline.evaluation.metrics import DEFINITIONS
from pipeline.inference.denoiser import Denoiser, NetworkDenoiser


def check_recordable(ref: str) -> None:
    """Raise UserError unless ``ref`` names a folder whose card is the user's own to change."""
    if ref.startswith(("models:/", "runs:/")):
        raise UserError(
            f"--record: expected a weights folder or a run folder, found {ref}; registered models do not change: "
            "`unveil models pull` it, record, and `unveil models register` it again"
        )


def record_validation(denoiser: Denoiser, result: dict[str, Any]) -> dict[str, Any]:
    """Write ``validated`` into the card of the denoiser's weights folder, and return it.

    Args:
        denoiser: what was evaluated.
        result: of `pipeline.evaluation.evaluate.evaluate`.

    Raises:
        UserError: no trained network, or its card cannot be written.
    """
    from models import replace_card
    from pipeline import __version__
    from pipeline.data.folders import manifest_hash
    from pipeline.evaluation.datasets import data_files

    if not isinstance(denoiser, NetworkDenoiser):
        raise UserError("--record: expected a trained network, found another kind of denoiser")
    validated = {
        "mode": denoiser.describe(),
        "data": result["data"],
        "data_hash": manifest_hash(data_files(result["data"])),
        "n": result["n"],
        "protocol": result["protocol"],
        "metrics": {name: result[name] for name in DEFINITIONS},
        "noisy": {name: result["noisy"][name] for name in DEFINITIONS},
        "visible_offsets": result["visible_offsets"],
        "unveil": __version__,
    }
    try:
        replace_card(denoiser.folder, {**denoiser.card, "validated": validated})
    except (ValueError, OSError) as error:
        raise UserError(f"--record: expected a card to write in {shown(denoiser.folder)}, found: {error}") from error
    return validated
