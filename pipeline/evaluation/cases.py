"""What an evaluation measures, one picture at a time: where its noisy and its clean side come from.

A case is small and can be sent to another process; its pictures are read, or made noisy, where they are measured.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from pipeline.data.blocks import Block
from pipeline.data.folders import file_hash
from pipeline.data.images import ImageError, Pixels, read_image, to_float, without_alpha
from pipeline.data.paths import shown

if TYPE_CHECKING:
    from noise import NoiseRecipe
    from noise.tone_mapping import ToneMapping

FloatImage = NDArray[np.float32]


class Sides(NamedTuple):
    """The pictures of a case, (H, W, 1 or 3) float32 in [0, 1], without alpha."""

    noisy: FloatImage
    clean: FloatImage | None
    """The truth, of the same shape; None where nobody knows it."""


class Case(Protocol):
    """One picture of an evaluation."""

    @property
    def name(self) -> str:
        """Unique in its set, with forward slashes."""

    @property
    def place(self) -> str:
        """What to name in a message: a file, as the user wrote it."""

    def read(self) -> Sides:
        """Read or make the pictures; the same ones every time.

        Raises:
            UserError, ValueError: a picture cannot be read, or does not suit the noise.
        """

    def identity(self) -> str:
        """Return 64 hexadecimal digits that are equal only where `read` gives equal pictures."""

    def absolute(self) -> Case:
        """Return the same for a process whose current folder is another."""


@dataclass(frozen=True, slots=True)
class PairCase:
    """A noisy picture and its clean partner, as they are on disk."""

    name: str
    noisy: Path | Block
    clean: Path | Block

    @property
    def place(self) -> str:
        """The noisy file."""
        return shown(str(self.noisy))

    def read(self) -> Sides:
        """Read both."""
        return Sides(_read(self.noisy), _read(self.clean))

    def identity(self) -> str:
        """Hash both contents."""
        return _hash("pair", _content(self.noisy), _content(self.clean))

    def absolute(self) -> PairCase:
        """Name both files in full."""
        return replace(self, noisy=_absolute(self.noisy), clean=_absolute(self.clean))


@dataclass(frozen=True, slots=True)
class PhotoCase:
    """A photo that nobody has without its noise."""

    name: str
    photo: Path

    @property
    def place(self) -> str:
        """The photo."""
        return shown(self.photo)

    def read(self) -> Sides:
        """Read it."""
        return Sides(_read(self.photo), None)

    def identity(self) -> str:
        """Hash its content."""
        return _hash("photo", file_hash(self.photo))

    def absolute(self) -> PhotoCase:
        """Name the file in full."""
        return replace(self, photo=self.photo.absolute())


@dataclass(frozen=True, slots=True)
class NoisedCase:
    """A clean picture that noise is put on, exactly as ``unveil synth`` with the same seed does."""

    name: str
    source: Path
    relative: Path
    """From which, with the seed, the noise follows."""

    recipe: NoiseRecipe
    seed: int

    @property
    def place(self) -> str:
        """The clean file."""
        return shown(self.source)

    def read(self) -> Sides:
        """Make the noisy picture; both are rounded to the depth of the source, as files would be."""
        from pipeline.data.synth_pairs import make_noisy, pair_seed

        noisy, clean, _ = make_noisy(read_image(self.source).pixels, self.recipe, pair_seed(self.seed, self.relative))
        return Sides(_display(noisy), _display(clean))

    def identity(self) -> str:
        """Hash the clean content, the recipe, the seed and the relative path."""
        from noise.recipe import recipe_to_dict

        recipe = json.dumps(recipe_to_dict(self.recipe), sort_keys=True)
        return _hash("noised", file_hash(self.source), recipe, str(self.seed), self.relative.as_posix())

    def absolute(self) -> NoisedCase:
        """Name the file in full; its noise follows from the relative path, which stays."""
        return replace(self, source=self.source.absolute())


@dataclass(frozen=True, slots=True)
class RenderedCase:
    """A rendering of few samples per pixel and its reference of many, tone-mapped alike."""

    name: str
    noisy: Path
    reference: Path
    mapping: ToneMapping

    @property
    def place(self) -> str:
        """The noisy rendering."""
        return shown(self.noisy)

    def read(self) -> Sides:
        """Tone-map both."""
        from pipeline.data.renders import read_rendering

        noisy, clean, _ = read_rendering(self.noisy, self.reference, self.mapping)
        return Sides(_display(noisy), _display(clean))

    def identity(self) -> str:
        """Hash both contents and the tone mapping."""
        return _hash("rendered", file_hash(self.noisy), file_hash(self.reference), repr(self.mapping))

    def absolute(self) -> RenderedCase:
        """Name both files in full."""
        return replace(self, noisy=self.noisy.absolute(), reference=self.reference.absolute())


@dataclass(frozen=True, kw_only=True, slots=True)
class CaseSet:
    """Cases whose numbers are averaged."""

    name: str
    """Unique in an evaluation; its title."""

    kind: Literal["pairs", "synthetic", "photos"]
    data: str
    """Folder, as the user wrote it."""

    layout: str
    """How the folder was understood."""

    cases: tuple[Case, ...]
    available: int
    """Cases there are; more than ``cases`` if only some were asked for."""

    noise: dict[str, Any] | None = None
    """Of a synthetic set: recipe, level (None without one) and seed."""

    unpaired: tuple[str, ...] = ()
    """Pictures without a partner, which are left out."""


def checked(case: Case, least: int) -> Sides:
    """Read a case whose pictures must be large enough for the metrics.

    Raises:
        ImageError: it is smaller, or the two sides differ in size.
    """
    sides = case.read()
    height, width = sides.noisy.shape[:2]
    if sides.clean is not None and sides.clean.shape != sides.noisy.shape:
        raise ImageError(f"{case.place}: expected the size of its clean partner, found {width}x{height}")
    if sides.clean is not None and min(height, width) < least:
        raise ImageError(f"{case.place}: expected at least {least}x{least} pixels, found {width}x{height}")
    return sides


def _read(source: Path | Block) -> FloatImage:
    return _display(source.pixels() if isinstance(source, Block) else read_image(source).pixels)


def _display(pixels: Pixels) -> FloatImage:
    return without_alpha(to_float(pixels))


def _absolute(source: Path | Block) -> Path | Block:
    return source if isinstance(source, Block) else source.absolute()


def _content(source: Path | Block) -> str:
    return hashlib.sha256(source.pixels().tobytes()).hexdigest() if isinstance(source, Block) else file_hash(source)


def _hash(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()
