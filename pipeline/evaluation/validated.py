"""What a model was validated with: the mode and the numbers of an evaluation, kept in the model's card."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.data.paths import shown
from pipeline.errors import UserError
from pipeline.evaluation.cases import CaseSet
from pipeline.evaluation.contenders import NOISY, Model
from pipeline.inference.denoiser import Denoiser, NetworkDenoiser
from pipeline.inference.shipped import NAMES


def check_recordable(ref: str) -> None:
    """Raise UserError unless ``ref`` names a folder whose card is the user's own to change."""
    if ref.startswith(("models:/", "runs:/")):
        raise UserError(
            f"--record: expected a weights folder or a run folder, found {ref}; registered models do not change: "
            "`unveil models pull` it, record, and `unveil models register` it again"
        )
    if ref in NAMES:
        raise UserError(
            f"--record: expected a weights folder or a run folder, found {ref}; models that come with unveil do not "
            f"change: `unveil models pull {ref} --out FOLDER`, and record in that"
        )


def check_single(models: Sequence[Model], sets: Sequence[CaseSet]) -> None:
    """Raise UserError unless there is one model and one set with clean pictures, which a card has room for."""
    if len(models) != 1 or len(sets) != 1 or sets[0].kind == "photos":
        photos = " of photos" if sets and sets[0].kind == "photos" else ""
        raise UserError(
            f"--record: expected one model on one set with clean pictures, found {len(models)} models and "
            f"{len(sets)} sets{photos}"
        )


def record_validation(denoiser: Denoiser, evaluation: Mapping[str, Any]) -> dict[str, Any]:
    """Write ``validated`` into the card of the denoiser's weights folder, and return it.

    Args:
        denoiser: what was evaluated.
        evaluation: ``result`` of `pipeline.evaluation.evaluate.measure_sets`, of what `check_single` let pass.

    Raises:
        UserError: no trained network, or a card that cannot be written.
    """
    from models import replace_card
    from pipeline import __version__

    if not isinstance(denoiser, NetworkDenoiser):
        raise UserError("--record: expected a trained network, found another kind of denoiser")
    one, label = evaluation["sets"][0], evaluation["models"][0]["label"]

    def means(method: str) -> dict[str, float | None]:
        return {name: found["mean"] for name, found in one["methods"][method]["metrics"].items()}

    validated = {
        "mode": denoiser.describe(),
        "data": one["data"],
        "noise": one["noise"],
        "data_hash": one["hash"],
        "n": one["n"],
        "protocol": evaluation["protocol"]["text"],
        "metrics": means(label),
        "noisy": means(NOISY),
        "visible_offsets": one["methods"][label]["visible_offsets"],
        "unveil": __version__,
    }
    try:
        replace_card(denoiser.folder, {**denoiser.card, "validated": validated})
    except (ValueError, OSError) as error:
        raise UserError(f"--record: expected a card to write in {shown(denoiser.folder)}, found: {error}") from error
    return validated
