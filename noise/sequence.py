"""Several recipes one after the other, each on what the last one left."""

from dataclasses import dataclass
from typing import ClassVar, Final, Literal

import torch
from torch import Tensor

from noise.corruption import Corruption, Parameters, in_turn
from noise.steps import STEPS, Step

_DEVELOPS: Final = ("camera", "eld")
"""Kinds whose clean partner is a developed raw: they need the scene itself, not a noisy image of it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Sequence:
    """Recipes applied in turn; the first decides what the clean partner is."""

    __pydantic_config__: ClassVar = {"extra": "forbid", "use_attribute_docstrings": True}

    kind: Literal["sequence"] = "sequence"
    """Tag of this recipe."""

    steps: tuple[Step, ...] = ()
    """The recipes in order, at least one. All but the last should have `eight_bit` (and `clip`) off."""

    def __post_init__(self) -> None:
        if not self.steps:
            raise ValueError("steps must hold at least one recipe, got none")
        for index, step in enumerate(self.steps[1:], start=1):
            if step.kind in _DEVELOPS:
                raise ValueError(f"steps.{index}: {step.kind} must be the first step, as it takes a clean image")

    def draw(self, generator: torch.Generator) -> Parameters:
        """Draw one image's parameters: those of all ``steps``, in order."""
        return {"kind": self.kind, "steps": [step.draw(generator) for step in self.steps]}


def add_sequence(clean: Tensor, parameters: Parameters) -> Corruption:
    """Apply the recorded steps in turn.

    Args:
        clean: (C, H, W) as the first step wants it.
        parameters: of ``Sequence.draw``.

    Returns:
        ``noisy`` of the last step and ``clean`` of the first.
    """
    return in_turn(clean, parameters, {kind: row.apply for kind, row in STEPS.items()})
