"""Noise recipes: which noise to make, as specs that round-trip through JSON, and the door to make it."""

from collections.abc import Mapping
from typing import Any, Final, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from noise.choice import Choice
from noise.corruption import Apply, Corruption, Parameters
from noise.sequence import Sequence, add_sequence
from noise.spec_json import spec_from_dict, spec_to_dict
from noise.steps import STEPS, AnyStep

NoiseRecipe = AnyStep | Sequence | Choice
T = TypeVar("T", Tensor, NDArray[np.generic])

_APPLY: Final[dict[str, Apply]] = {kind: row.apply for kind, row in STEPS.items()} | {"sequence": add_sequence}


def corrupt(clean: Tensor, recipe: NoiseRecipe, generator: torch.Generator) -> Corruption:
    """Make one noisy image and its clean partner.

    Args:
        clean: (C, H, W) float in [0, 1], or uint8 (for camera noise much quicker). Noise that is made in a camera
            wants C = 3.
        recipe: which noise, and the ranges of its parameters.
        generator: source of every random number: of the parameters, one of which is the seed of the noise.

    Returns:
        The pair, with the drawn parameters. For noise that is made in a camera ``clean`` is ``process(noise-free
        raw)`` and not the image put in.

    Raises:
        ValueError: the image does not suit the recipe.
    """
    return reproduce(clean, recipe.draw(generator))


def reproduce(clean: Tensor, parameters: Parameters) -> Corruption:
    """Make a pair again, to the bit, from the image put in and the ``parameters`` that ``corrupt`` reported.

    Raises:
        ValueError: the recorded kind is unknown, or the image does not suit it.
    """
    apply = _APPLY[_known_kind(parameters, *_APPLY)]
    if clean.ndim != 3:
        raise ValueError(f"an image must have shape (C, H, W), got {tuple(clean.shape)}")
    return apply(clean, parameters)


def corrupt_batch(clean: T, recipe: NoiseRecipe, generator: torch.Generator) -> tuple[T, T, list[Parameters]]:
    """Make noisy images of a batch, each with its own draw: as `corrupt` for one after the other.

    Args:
        clean: (B, C, H, W), B at least 1, tensor on any device or NumPy array; values as for `corrupt`.
        recipe: which noise.
        generator: source of every random number.

    Returns:
        Noisy and clean, both (B, C, H, W) and of the kind put in, and the parameters of every image.

    Raises:
        ValueError: as `corrupt`, or ``clean`` is no batch.
    """
    if clean.ndim != 4 or clean.shape[0] < 1:
        raise ValueError(f"a batch must have shape (B, C, H, W) with B >= 1, got {tuple(clean.shape)}")
    images = clean if isinstance(clean, Tensor) else torch.from_numpy(clean.copy())
    made = [corrupt(image, recipe, generator) for image in images]
    noisy, partners = (torch.stack(list(part)) for part in zip(*((one.noisy, one.clean) for one in made), strict=True))
    parameters = [one.parameters for one in made]
    if isinstance(clean, Tensor):
        return noisy, partners, parameters
    return noisy.numpy(), partners.numpy(), parameters


def recipe_to_dict(recipe: NoiseRecipe) -> dict[str, Any]:
    """The recipe as JSON values; ranges become lists, specs within it objects."""
    return spec_to_dict(recipe)


def recipe_from_dict(values: Mapping[str, Any]) -> NoiseRecipe:
    """Inverse of ``recipe_to_dict``; missing keys take their defaults.

    Raises:
        ValueError: the kind or a key is unknown, or a value is out of its range; the message begins with the
            dotted key.
    """
    _known_kind(values, *_APPLY, "choice")
    recipe: NoiseRecipe = spec_from_dict(NoiseRecipe, values)
    return recipe


def _known_kind(values: Mapping[str, Any], *kinds: str) -> str:
    kind = values.get("kind")
    if kind not in kinds:
        raise ValueError(f"kind: no noise {kind!r}; there is {', '.join(kinds)}")
    return str(kind)
