"""What a noise recipe returns: the noisy image, its clean partner, and what makes them again."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor

Parameters = dict[str, Any]
"""JSON values: the drawn numbers of one image, its noise ``seed`` and the recipe's ``kind``."""

SEED_LIMIT: Final = 2**53
"""Larger integers do not survive a JSON reader that holds numbers as float64."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Corruption:
    """A pair to train or to score on, and the parameters that reproduce it."""

    noisy: Tensor
    """(C, H, W) float."""

    clean: Tensor
    """(C, H, W) float: what a perfect denoiser returns for ``noisy``. Not always the image put in."""

    parameters: Parameters
    """With the image put in, enough for ``noise.recipe.reproduce`` to return the same bits."""


def draw_seed(generator: torch.Generator) -> int:
    """Draw the seed of one image's noise, so that a manifest can store it."""
    return int(torch.randint(SEED_LIMIT, (), generator=generator, device=generator.device).item())


def generator_from(parameters: Parameters) -> torch.Generator:
    """A CPU generator at the recorded seed: the same numbers whatever the device of the image."""
    return torch.Generator().manual_seed(parameters["seed"])


Apply = Callable[[Tensor, Parameters], Corruption]
"""Makes the noise that parameters describe."""


def in_turn(clean: Tensor, parameters: Parameters, apply: Mapping[str, Apply]) -> Corruption:
    """Apply the recorded ``steps`` of ``parameters`` one after the other, each to what the last one left.

    The first step decides what the clean partner is; the others take its noisy image as it comes, which is
    why a step that is followed by another should not round to 8 bits.
    """
    first, *others = parameters["steps"]
    made = apply[first["kind"]](clean, first)
    noisy, done = made.noisy, [made.parameters]
    for step in others:
        result = apply[step["kind"]](noisy, step)
        noisy, done = result.noisy, [*done, result.parameters]
    return Corruption(noisy=noisy, clean=made.clean, parameters={**parameters, "steps": done})
