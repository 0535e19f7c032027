"""The sets of an evaluation: folders of pairs or photos as they are, and clean folders under many noises."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from pipeline.data.folders import scan
from pipeline.data.paths import shown
from pipeline.errors import UserError
from pipeline.evaluation.cases import Case, CaseSet, NoisedCase, PairCase, PhotoCase, RenderedCase
from pipeline.evaluation.datasets import find_pairs, holds_pairs, spread

if TYPE_CHECKING:
    from noise import NoiseRecipe


class Noise(NamedTuple):
    """One noise of a suite, as typed."""

    recipe: str
    """A name for ``unveil synth --recipe``, or a JSON file."""

    level: str | None
    """A number; None for the recipe's own range."""

    @property
    def name(self) -> str:
        """For tables and figures: ``gaussian 15``."""
        recipe = Path(self.recipe).stem if self.recipe.endswith(".json") else self.recipe
        return recipe if self.level is None else f"{recipe} {self.level}"


SUITES: Final[dict[str, tuple[str, ...]]] = {
    "masked": (
        "gaussian:15",
        "spatial:40,45,50,55,60",
        "speckle:0.018,0.024,0.03,0.036,0.04",
        "poisson:2,2.5,3,3.5",
        "mixture:1,2,3,4,5",
        "salt_pepper:0.002,0.02",
        "isp",
    ),
    "quick": ("gaussian:15,50", "spatial:55", "speckle:0.03", "poisson:2,3.5", "mixture:3", "salt_pepper:0.02"),
}
"""``masked``: the training noise, every noise and level of Figure 11 of the masked-training paper, salt and pepper, and
the ISP noise of Table 3c; ``quick``: some of them and Gaussian noise of sigma 50."""


def noises_of(texts: Iterable[str], option: str = "--noise") -> list[Noise]:
    """Read ``--noise``: ``poisson:2,2.5`` is two noises, ``isp`` one, ``x.json`` a recipe in a file.

    Args:
        texts: as typed.
        option: to name in messages.

    Raises:
        UserError: nothing before the colon, a level that is no number, or the same noise twice.
    """
    noises: list[Noise] = []
    for text in texts:
        recipe, colon, levels = (text, "", "") if text.endswith(".json") else text.partition(":")
        if not recipe.strip() or (colon and not levels.strip()):
            raise UserError(f"{option}: expected a recipe, or recipe:level,level; found {text!r}")
        for level in levels.split(",") if colon else (None,):
            if level is not None and _number(level) is None:
                raise UserError(f"{option}: expected a recipe, or recipe:level,level; found {text!r}")
            noises.append(Noise(recipe.strip(), level if level is None else level.strip()))
    twice = next((noise for noise in noises if noises.count(noise) > 1), None)
    if twice is not None:
        raise UserError(f"{option}: expected each noise once, found {twice.name} twice")
    return noises


def recipe_of(noise: Noise, option: str = "--noise") -> NoiseRecipe:
    """Return what makes a noise on clean pictures.

    Raises:
        UserError: no such recipe or level, or one that needs more than clean pictures.
    """
    from noise.tone_mapping import ToneMapping
    from pipeline.data.synth_recipes import make_recipe

    try:
        recipe = make_recipe(noise.recipe, noise.level)
    except UserError as error:
        raise UserError(f"{option} {noise.name}: {str(error).removeprefix('--recipe: ')}") from None
    if isinstance(recipe, ToneMapping):
        raise UserError(f"{option} {noise.name}: expected noise that is made from clean pictures, found renderings")
    return recipe


def suite_noises(name: str) -> list[Noise]:
    """Return the noises of a named suite.

    Raises:
        UserError: unknown; lists what exists.
    """
    if name not in SUITES:
        raise UserError(f"--suite: expected one of {', '.join(SUITES)}, found {name!r}")
    return noises_of(SUITES[name])


def data_set(folder: Path, layout: str = "auto", limit: int | None = None) -> CaseSet:
    """Return a folder as it is: its pairs, or, where nothing in it is one, its photos.

    Args:
        folder: see `pipeline.evaluation.datasets.find_pairs`.
        layout: as there, or ``photos`` for photos without partners; ``auto`` finds out.
        limit: this many, evenly spaced; None for all.

    Raises:
        UserError: as for `pipeline.evaluation.datasets.find_pairs`.
    """
    if layout == "photos" or (layout == "auto" and folder.is_dir() and not holds_pairs(folder)):
        files = scan([folder])
        photos: list[Case] = [PhotoCase(file.relative.as_posix(), file.path) for file in files]
        return CaseSet(
            name=_folder_name(folder),
            kind="photos",
            data=str(folder),
            layout="photos",
            cases=tuple(spread(photos, limit)),
            available=len(photos),
        )
    found = find_pairs(folder, layout)
    pairs: list[Case] = [PairCase(pair.name, pair.noisy, pair.clean) for pair in found.pairs]
    return CaseSet(
        name=_folder_name(folder),
        kind="pairs",
        data=str(folder),
        layout=found.layout,
        cases=tuple(spread(pairs, limit)),
        available=len(pairs),
        unpaired=tuple(map(str, found.unpaired)),
    )


def noised_sets(folder: Path, noises: Sequence[Noise], seed: int, limit: int | None = None) -> list[CaseSet]:
    """Return a clean folder under each noise, as ``unveil synth --seed`` would write it.

    Args:
        folder: clean pictures, or for ``monte_carlo`` renderings beside their references.
        noises: of `noises_of`.
        seed: of all noise.
        limit: this many pictures, evenly spaced; None for all.

    Raises:
        UserError: no pictures, or an unknown noise.
    """
    return [_noised(folder, noise, seed, limit) for noise in noises]


def unique_names(sets: Sequence[CaseSet]) -> list[CaseSet]:
    """Return the sets with different names: where two folders share one, their paths say which is which."""
    from dataclasses import replace

    names = [one.name for one in sets]
    named = [replace(one, name=f"{one.name} ({one.data})") if names.count(one.name) > 1 else one for one in sets]
    again = [one.name for one in named]
    twice = next((name for name in again if again.count(name) > 1), None)
    if twice is not None:
        raise UserError(f"--data, --clean, --noise: expected each set once, found {shown(twice)} twice")
    return named


def _noised(folder: Path, noise: Noise, seed: int, limit: int | None) -> CaseSet:
    if noise.recipe == "monte_carlo":
        cases = _renderings(folder, noise)
    else:
        recipe, files = recipe_of(noise), scan([folder])
        cases = [NoisedCase(_stem(file.relative), file.path, file.relative, recipe, seed) for file in files]
        _check_stems(cases)
    level = None if noise.level is None else _number(noise.level)
    return CaseSet(
        name=f"{_folder_name(folder)} {noise.name}",
        kind="synthetic",
        data=str(folder),
        layout="renderings" if noise.recipe == "monte_carlo" else "clean",
        cases=tuple(spread(cases, limit)),
        available=len(cases),
        noise={"recipe": noise.recipe, "level": level, "seed": seed},
    )


def _renderings(folder: Path, noise: Noise) -> list[Case]:
    from noise.tone_mapping import ToneMapping
    from pipeline.data.renders import find_renderings
    from pipeline.data.synth_recipes import make_recipe

    mapping = make_recipe(noise.recipe)
    assert isinstance(mapping, ToneMapping)
    wanted = None if noise.level is None else (float(noise.level), float(noise.level))
    found = find_renderings(folder, samples=wanted)
    return [RenderedCase(one.relative.as_posix(), one.noisy, one.reference, mapping) for one in found]


def _check_stems(cases: Sequence[Case]) -> None:
    for first, second in itertools.pairwise(sorted(cases, key=lambda case: case.name)):
        if first.name == second.name:
            raise UserError(f"{first.place}: expected one picture of this name, found also {second.place}")


def _stem(relative: Path) -> str:
    return relative.with_suffix("").as_posix()


def _number(level: str) -> float | None:
    try:
        return float(level)
    except ValueError:
        return None


def _folder_name(folder: Path) -> str:
    return folder.resolve().name or str(folder)
