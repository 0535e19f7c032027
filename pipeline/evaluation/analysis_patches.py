"""What an analysis shows its networks: the same patches of clean pictures under different noise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.data.folders import SourceFile
from pipeline.data.images import from_float, read_image, read_size, to_float, without_alpha
from pipeline.data.paths import shown
from pipeline.data.synth_pairs import NEEDS_RGB, first_kind, pair_seed
from pipeline.errors import UserError
from pipeline.evaluation.case_sets import noises_of, recipe_of

if TYPE_CHECKING:
    from noise import NoiseRecipe

FloatImage = NDArray[np.float32]


class Patch(NamedTuple):
    """A square of a picture."""

    file: int
    """Number of the picture."""

    top: int
    """Row of its first pixel."""

    left: int
    """Column of its first pixel."""


@dataclass(frozen=True, slots=True)
class Noise:
    """A kind of noise at one level, as typed after ``--noise``."""

    text: str
    """``recipe`` or ``recipe:level``."""

    recipe: NoiseRecipe
    """What makes it."""

    @property
    def name(self) -> str:
        """For figures: ``gaussian 15``."""
        return self.text.replace(":", " ")


def read_noises(texts: Sequence[str], option: str = "--noise") -> list[Noise]:
    """Read noises as typed; see `pipeline.evaluation.case_sets.noises_of`.

    Raises:
        UserError: no such recipe or level, or one that needs more than clean pictures.
    """
    found = noises_of(texts, option)
    named = [one.recipe if one.level is None else f"{one.recipe}:{one.level}" for one in found]
    return [Noise(text, recipe_of(one, option)) for text, one in zip(named, found, strict=True)]


def choose_patches(files: Sequence[SourceFile], count: int, side: int, seed: int) -> list[Patch]:
    """Choose squares at random places, from one picture after the other, so that neighbours in the list are strangers.

    Places are a function of the seed, the path below the folder and the number of the patch.

    Raises:
        UserError: a picture is smaller than a patch.
    """
    places = []
    generators = []
    for source in files:
        height, width = read_size(source.path)
        if min(height, width) < side:
            raise UserError(
                f"{shown(source.path)}: expected at least {side}x{side} pixels, found {width}x{height}; use --patch"
            )
        places.append((height - side, width - side))
        generators.append(np.random.default_rng(pair_seed(seed, source.relative)))
    patches = []
    for index in range(count):
        file = index % len(files)
        top, left = (int(generators[file].integers(most + 1)) for most in places[file])
        patches.append(Patch(file, top, left))
    return patches


def noisy_patches(
    files: Sequence[SourceFile], patches: Sequence[Patch], side: int, recipe: NoiseRecipe, seed: int
) -> tuple[list[FloatImage], list[FloatImage]]:
    """Put noise on whole pictures, as ``unveil synth --seed`` does to the byte, and cut the patches out.

    Whole, because some noise depends on the picture it is put on (Poisson noise on its number of levels).

    Returns:
        Noisy and clean patches (side, side, C) float32 in [0, 1], in the order of ``patches``.

    Raises:
        UserError: a picture cannot be read, or does not suit the recipe.
    """
    import torch

    from noise import corrupt

    found: dict[int, tuple[FloatImage, FloatImage]] = {}
    for number, source in enumerate(files):
        mine = [index for index, patch in enumerate(patches) if patch.file == number]
        if not mine:
            continue
        pixels = read_image(source.path).pixels
        colours = without_alpha(pixels)
        if colours.shape[2] == 1 and first_kind(recipe) in NEEDS_RGB:
            colours = np.repeat(colours, 3, axis=2)
        values = colours if colours.dtype == np.uint8 else to_float(colours)
        image = torch.from_numpy(values.transpose(2, 0, 1).copy())
        try:
            made = corrupt(image, recipe, torch.Generator().manual_seed(pair_seed(seed, source.relative)))
        except ValueError as error:
            raise UserError(f"{shown(source.path)}: {error}") from None
        dtype = np.uint8 if pixels.dtype == np.uint8 else np.uint16
        noisy, clean = (
            to_float(from_float(part.numpy().transpose(1, 2, 0), dtype)) for part in (made.noisy, made.clean)
        )
        for index in mine:
            _, top, left = patches[index]
            square = (slice(top, top + side), slice(left, left + side))
            # Copies, so that the picture they are cut from can go.
            found[index] = noisy[square].copy(), clean[square].copy()
    return [found[index][0] for index in range(len(patches))], [found[index][1] for index in range(len(patches))]
