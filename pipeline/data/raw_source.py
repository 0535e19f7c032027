"""Training samples from the Bayer mosaics of raw files: packed planes of one geometry, on a curve, with their noise.

Whatever the CFA pattern, a network sees the planes R, Gr, Gb, B as they lie in an RGGB cell: another pattern is an
RGGB mosaic that was mirrored, so its planes are mirrored back. Cells are never split.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.data.held_out import MEASURE_BATCH, Area
from pipeline.data.source import BatchSource

if TYPE_CHECKING:
    from noise.shot_read import NoiseLevel
    from raw.cfa import CFAPattern
    from raw.raw_file import RawFile

Floats = NDArray[np.float32]
Curve = Literal["stabilised", "linear"]


@dataclass(frozen=True, kw_only=True, slots=True)
class RawData:
    """What a synthesizer needs to know about raw beyond `SourceSpec`."""

    levels: tuple[tuple[str, float, float], ...] = ()
    """(path, shot, read) of each raw file, held-out ones too; none where raw is made from pictures."""

    curve: Curve
    """How linear raw is shown to the network."""

    level_map: bool
    """Whether samples come with the noise parameters that a network's level map is made from."""

    level_error: float = 0.0
    """Deviation of the logarithms of the factors that shot and read of made raw are told wrong by."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Mosaic:
    """The whole cells of a Bayer mosaic as stored."""

    pixels: NDArray[np.uint16]
    """(H, W), both even."""

    pattern: CFAPattern
    """CFA pattern at pixel (0, 0)."""

    black_levels: tuple[float, float, float, float]
    """Black levels of the planes R, Gr, Gb, B."""

    white_level: int
    """Level that becomes 1."""

    @property
    def nbytes(self) -> int:
        """Memory that it takes."""
        return self.pixels.nbytes

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of cells."""
        return self.pixels.shape[0] // 2, self.pixels.shape[1] // 2


def whole_cells(raw: RawFile) -> Mosaic:
    """Return the mosaic of a raw file without the last row or column of an odd size.

    Raises:
        ValueError: not a Bayer mosaic.
    """
    if raw.mosaic is None or raw.pattern is None:
        raise ValueError(f"expected a Bayer mosaic, found {raw.kind}")
    height, width = (size // 2 * 2 for size in raw.mosaic.shape)
    return Mosaic(
        pixels=np.ascontiguousarray(raw.mosaic[:height, :width]),
        pattern=raw.pattern,
        black_levels=raw.black_levels,
        white_level=raw.white_level,
    )


def read_mosaic(path: str, *, max_pixels: int) -> Mosaic:
    """Read a raw file in the child process.

    Raises:
        ImageError: unreadable, or not a Bayer mosaic.
    """
    from pipeline.data.images import ImageError, read_raw_file
    from pipeline.data.paths import shown

    raw = read_raw_file(Path(path), max_pixels=max_pixels)
    try:
        return whole_cells(raw)
    except ValueError as error:
        raise ImageError(f"{shown(path)}: {error}") from error


def as_rggb(planes: Floats, pattern: CFAPattern) -> Floats:
    """Mirror packed planes (4, h, w) so that they lie in a cell as those of an RGGB mosaic do; its own inverse."""
    from raw.cfa import plane_sites

    row, column = plane_sites(pattern)[0]
    return planes[:, :: -1 if row else 1, :: -1 if column else 1]


def on_curve(planes: Floats, level: NoiseLevel, curve: Curve) -> Floats:
    """Linear planes, black 0 and white 1, as the network is shown them."""
    from noise.stabilised import stabilise

    return stabilise(planes, level) if curve == "stabilised" else planes


def off_curve(planes: Floats, level: NoiseLevel, curve: Curve) -> Floats:
    """Inverse of `on_curve`."""
    from noise.stabilised import restore

    return restore(planes, level) if curve == "stabilised" else planes


def level_on_curve(level: NoiseLevel, curve: Curve) -> tuple[float, float]:
    """(shot, read) of the noise on the curve: on the stabilising one its deviation is the same everywhere."""
    from noise.stabilised import deviation

    return (0.0, deviation(level) ** 2) if curve == "stabilised" else (level.shot, level.read)


def cut_cells(mosaic: Mosaic, top: int, left: int, height: int, width: int) -> Floats:
    """Cut cells out of a mosaic: planes (4, height, width), linear, lying as those of an RGGB mosaic do."""
    from raw.levels import Levels, normalise

    cut = mosaic.pixels[2 * top : 2 * (top + height), 2 * left : 2 * (left + width)]
    levels = Levels(pattern=mosaic.pattern, black_levels=mosaic.black_levels, white_level=mosaic.white_level)
    return as_rggb(normalise(cut, levels), mosaic.pattern)


def turned(planes: Floats, random: np.random.Generator) -> Floats:
    """Mirror and transpose planes (4, n + 1, n + 1) at random as an RGGB mosaic is: (4, n, n) in the same geometry.

    A mirrored RGGB mosaic is RGGB again without its first and last column (`raw.bayer.flip`), and a transposed one is
    RGGB as it is.
    """
    import torch

    from raw.bayer import flip
    from raw.mosaic import pack, unpack

    across, down, transposed = (bool(random.integers(2)) for _ in range(3))
    side = 2 * (planes.shape[1] - 1)
    mosaic = unpack(torch.from_numpy(np.ascontiguousarray(planes)), "RGGB")
    mosaic = flip(mosaic, across=across, down=down)[:side, :side]
    if transposed:
        mosaic = mosaic.T
    result: Floats = pack(mosaic, "RGGB").numpy()
    return result


class RawBatchSource(BatchSource):
    """`BatchSource` of raw files: areas and crops are counted in cells, samples have the planes R, Gr, Gb, B.

    Values are black 0 and white 1, not clipped at either, and on the curve of `RawData`.
    """

    def batch(self, index: int, positions: Sequence[int]) -> dict[str, np.ndarray]:
        """Make samples as `BatchSource.batch` does, with their ``levels`` (B, 2) float32: shot and read on the curve.

        The same stand under ``noise`` where the network has a level map.
        """
        from models import fold

        if index == MEASURE_BATCH:
            measured = self._measure_batch(positions)
            files = sorted({area.file for area in self.spec.measured})
            return measured | self._noise([files[image] for image in measured["images"]])
        samples, paths = [], []
        for position in positions:
            random = np.random.default_rng([self.spec.seed, index, position])
            side = self.spec.crop + 1  # a cell more, for flips that keep the geometry
            path, top, left = self._place(random, side)
            samples.append(turned(self._planes(Area(path, top, left, side, side)), random))
            paths.append(path)
        seeds = np.array([fold(self.spec.seed, index, position) for position in positions], dtype=np.int64)
        batch: dict[str, np.ndarray] = {"noisy": np.stack(samples), "seeds": seeds}
        return batch | self._noise(paths)

    def _planes(self, area: Area) -> Floats:
        mosaic = self._pixels(area.file)
        assert isinstance(mosaic, Mosaic)
        planes = cut_cells(mosaic, area.top, area.left, area.height, area.width)
        return on_curve(planes, self._level(area.file), self._raw.curve)

    def _square(self, area: Area) -> np.ndarray:
        return self._planes(area).transpose(1, 2, 0)

    def _decoded(self, path: str) -> np.ndarray | Mosaic:
        from pipeline.data.images import ImageError

        mosaic = read_mosaic(path, max_pixels=self.spec.max_pixels)
        if min(mosaic.shape) <= self.spec.crop:
            raise ImageError(f"{path}: expected more than data.crop ({self.spec.crop}) cells, found {mosaic.shape}")
        return mosaic

    def _level(self, path: str) -> NoiseLevel:
        from noise.shot_read import NoiseLevel

        shot, read = next((shot, read) for name, shot, read in self._raw.levels if name == path)
        return NoiseLevel(shot=shot, read=read)

    def _noise(self, paths: Sequence[str]) -> dict[str, np.ndarray]:
        levels = np.array([level_on_curve(self._level(path), self._raw.curve) for path in paths], dtype=np.float32)
        return {"levels": levels, "noise": levels} if self._raw.level_map else {"levels": levels}


def as_pictures(columns: Sequence[NDArray[np.floating]]) -> list[Floats]:
    """Planes (N, 4, h, w) as colours (N, 3, h, w) to look at: red, the mean of both greens and blue, evenly bright.

    All are brightened as the first one needs.
    """
    colours = [np.stack([c[:, 0], (c[:, 1] + c[:, 2]) / 2, c[:, 3]], axis=1) for c in columns]
    white = np.quantile(colours[0], 0.99, axis=(0, 2, 3), keepdims=True)
    return [np.asarray(c / np.maximum(white, 1e-6), dtype=np.float32) for c in colours]
