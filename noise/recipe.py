"""Noise recipes: which noise to make, as specs that round-trip through JSON, and the door to make it."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, fields
from typing import Any

import torch
from torch import Tensor

from noise.camera_noise import CameraNoise, add_camera_noise
from noise.corruption import Corruption, Parameters
from noise.srgb import Gaussian, add_gaussian

NoiseRecipe = Gaussian | CameraNoise

_RECIPES: dict[str, type[Gaussian] | type[CameraNoise]] = {"gaussian": Gaussian, "camera": CameraNoise}
_APPLY: dict[str, Callable[[Tensor, Parameters], Corruption]] = {
    "gaussian": add_gaussian,
    "camera": add_camera_noise,
}


def corrupt(clean: Tensor, recipe: NoiseRecipe, generator: torch.Generator) -> Corruption:
    """Make one noisy image and its clean partner.

    Args:
        clean: (C, H, W) float in [0, 1]; for camera noise C = 3, and uint8 is accepted (and quicker).
        recipe: which noise, and the ranges of its parameters.
        generator: source of every random number: of the parameters, one of which is the seed of the noise.

    Returns:
        The pair, with the drawn parameters. For camera noise ``clean`` is ``process(noise-free raw)`` and
        not the image put in.

    Raises:
        ValueError: the image does not suit the recipe.
    """
    return reproduce(clean, recipe.draw(generator))


def reproduce(clean: Tensor, parameters: Parameters) -> Corruption:
    """Make a pair again, to the bit, from the image put in and the ``parameters`` that ``corrupt`` reported.

    Raises:
        ValueError: the recorded kind is unknown, or the image does not suit it.
    """
    apply = _APPLY[_known_kind(parameters)]
    if clean.ndim != 3:
        raise ValueError(f"an image must have shape (C, H, W), got {tuple(clean.shape)}")
    return apply(clean, parameters)


def recipe_to_dict(recipe: NoiseRecipe) -> dict[str, Any]:
    """The recipe as JSON values; ranges become lists."""
    return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(recipe).items()}


def recipe_from_dict(values: Mapping[str, Any]) -> NoiseRecipe:
    """Inverse of ``recipe_to_dict``; missing keys take their defaults.

    Raises:
        ValueError: the kind or a key is unknown, or a value is out of its range.
    """
    spec = _RECIPES[_known_kind(values)]
    defaults = {field.name: field.default for field in fields(spec)}
    for key in values:
        if key not in defaults:
            raise ValueError(f"{key}: unknown key of {values['kind']} noise; it has {', '.join(defaults)}")
    return spec(**{key: _checked(key, value, defaults[key]) for key, value in values.items()})


def _known_kind(values: Mapping[str, Any]) -> str:
    kind = values.get("kind")
    if kind not in _RECIPES:
        raise ValueError(f"kind: no noise {kind!r}; there is {', '.join(_RECIPES)}")
    return str(kind)


def _checked(key: str, value: Any, default: Any) -> Any:
    """Give a JSON value the type of the field's default: JSON has no tuples, and writes 15.0 as 15."""
    if isinstance(default, bool):
        if not isinstance(value, bool):
            raise ValueError(f"{key} must be true or false, got {value}")
    elif isinstance(default, tuple):
        numbers = value if isinstance(value, list | tuple) else ()
        numbers = [end for end in numbers if isinstance(end, int | float) and not isinstance(end, bool)]
        if len(numbers) != 2 or len(numbers) != len(value):
            raise ValueError(f"{key} must be [lowest, highest], got {value}")
        return float(numbers[0]), float(numbers[1])
    return value
