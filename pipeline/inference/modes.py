"""How a model is to denoise: what its card says, what the user asks for instead, and what it was validated with."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pipeline.errors import UserError

if TYPE_CHECKING:
    from models import InferenceSpec
    from pipeline.inference.denoiser import Denoiser, NetworkDenoiser

ENSEMBLE_DRAWS = 8
"""Draws of ``--attention ensemble`` where neither the user nor the card says how many."""

_CHOICES = {"attention": ("seeded", "ensemble", "off"), "offset": ("keep", "level")}
_COMPARED = ("mode", "attention", "draws")


def with_mode(
    denoiser: Denoiser, *, attention: str | None = None, draws: int | None = None, offset: str | None = None
) -> tuple[Denoiser, str | None]:
    """Return the denoiser in the mode asked for, and a line to show if that is not what it was validated with.

    Args:
        denoiser: of `pipeline.inference.denoiser.load_denoiser`; anything else only serves if nothing is asked.
        attention: ``seeded``, ``ensemble`` or ``off``; None keeps what the card says. Without ``draws``, ``seeded``
            is one draw and ``ensemble`` as many as the card says, or 8.
        draws: number of draws to average; None as above.
        offset: ``keep`` or ``level``; None keeps what the card says.

    Raises:
        UserError: an unknown choice, or one that means nothing for this model.
    """
    from pipeline.inference.denoiser import NetworkDenoiser

    for option, value in (("attention", attention), ("offset", offset)):
        if value is not None and value not in _CHOICES[option]:
            raise UserError(f"--{option}: expected one of {', '.join(_CHOICES[option])}, found {value!r}")
    nothing = attention is None and draws is None and offset is None
    if not isinstance(denoiser, NetworkDenoiser):
        if nothing:
            return denoiser, None
        raise UserError("--attention, --draws, --offset: expected a trained network, found another kind of denoiser")
    spec = denoiser.inference
    if attention is not None or draws is not None:
        spec = _asked(spec, denoiser.stochastic, attention, draws)
    if offset is not None:
        spec = replace(spec, offset=offset)  # type: ignore[arg-type]  # checked above
    chosen = denoiser.using(spec)
    return chosen, warning(chosen)


def _asked(spec: InferenceSpec, stochastic: bool, attention: str | None, draws: int | None) -> InferenceSpec:
    blind = spec.mode == "multi_mask"
    if attention is not None and not stochastic:
        raise UserError(
            f"--attention: expected a network with attention masks, found one without; leave {attention!r} out"
        )
    kind = attention or spec.attention
    if draws is not None and not blind and (kind == "off" or not stochastic):
        raise UserError("--draws: expected something to draw at random, found a mode without it; leave --draws out")
    if draws is None:
        draws = spec.draws
        if attention == "seeded" and not blind:
            draws = 1
        elif attention == "ensemble" and draws < 2:
            draws = ENSEMBLE_DRAWS
    if attention == "ensemble" and draws < 2:
        raise UserError(f"--draws: expected at least 2 with --attention ensemble, found {draws}")
    if attention is None and kind != "off":
        # The card's word may be "ensemble", of which one draw is none.
        kind = "seeded" if draws == 1 else spec.attention
    try:
        return replace(spec, attention=kind, draws=draws)  # type: ignore[arg-type]  # checked by the caller
    except ValueError as error:
        raise UserError(f"--draws: {error}") from None


def warning(denoiser: NetworkDenoiser) -> str | None:
    """Return a line that says that this is not the mode the model was validated with (or, if none, meant for)."""
    validated = denoiser.card.get("validated")
    asked = denoiser.describe()
    if isinstance(validated, dict) and isinstance(validated.get("mode"), dict):
        known, source = validated["mode"], "the model was validated with"
    else:
        known, source = denoiser.describe_card(), "the model was validated with no mode at all, and is meant for"
    if all(known.get(key) == asked[key] for key in _COMPARED):
        return None
    return f"denoising with {in_words(asked)}; {source} {in_words(known)}"


def in_words(mode: dict[str, Any]) -> str:
    """Return a mode of `models.describe_inference` as a phrase."""
    attention, draws = mode.get("attention"), mode.get("draws")
    words = {
        "none": "no attention masks",
        "off": "attention masks off",
        "seeded": "seeded attention masks",
        "ensemble": f"an ensemble of {draws} draws of the attention masks",
    }.get(str(attention), f"attention {attention!r}")
    if mode.get("mode") == "multi_mask":
        return f"{words} and {draws} draws of the complementary masks"
    return words
