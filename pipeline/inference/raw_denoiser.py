"""A network trained on raw planes as a denoiser of raw files: mosaic in, mosaic out."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final, cast

import numpy as np
from numpy.typing import NDArray

from pipeline.data.raw_source import Curve, as_rggb, level_on_curve, off_curve, on_curve
from pipeline.errors import UserError

if TYPE_CHECKING:
    from noise.shot_read import NoiseLevel
    from pipeline.inference.denoiser import NetworkDenoiser
    from raw.raw_file import RawFile

Floats = NDArray[np.float32]
Span = tuple[int, int, int, int]
"""Along one axis, in pixels: what is read from and to, and what of it is kept from and to."""

_STRIP: Final = 256
"""Pixels read for the last row or column of an odd size."""

_RANGE: Final = 1.5
"""Noise is as in training up to this factor beyond the levels trained on: so far do measurements scatter."""


class RawDenoiser:
    """Denoises Bayer mosaics, whatever their pattern and size; the same mosaic always gives the same result."""

    def __init__(self, network: NetworkDenoiser) -> None:
        """Take a network whose card says how it was trained on raw.

        Raises:
            UserError: it was not.
        """
        facts = network.card.get("raw")
        if network.domain != "raw" or not isinstance(facts, dict) or facts.get("curve") not in ("stabilised", "linear"):
            raise UserError("model: expected one trained with data.domain=raw, found one for pictures")
        self.network = network
        self._facts: dict[str, Any] = facts
        self._curve = cast("Curve", facts["curve"])
        # What a prediction of pixels that were seen misses is not independent of their noise: nothing is put back.
        self._blind = network.inference.mode == "multi_mask"

    def mosaic(self, raw: RawFile, level: NoiseLevel) -> NDArray[np.uint16]:
        """Denoise the mosaic of a raw file.

        Pixels at which the data clip keep their numbers, and no other pixel reaches them, so that converters see the
        same highlights. Of an odd size the last row and column are predicted from whole cells too, those that end
        with them.

        Args:
            raw: a Bayer raw.
            level: its noise.

        Returns:
            (H, W), integers of the file.

        Raises:
            ValueError: not a Bayer mosaic, or sides below 2.
        """
        from raw.cfa import shifted
        from raw.levels import Levels, denormalise, normalise

        if raw.mosaic is None or raw.pattern is None:
            raise ValueError(f"expected a Bayer mosaic, found {raw.kind}")
        if min(raw.mosaic.shape) < 2:
            raise ValueError(f"expected at least 2x2 pixels, found {raw.width}x{raw.height}")
        output = np.empty_like(raw.mosaic)
        for rows, columns in itertools.product(_spans(raw.height), _spans(raw.width)):
            pattern = shifted(raw.pattern, rows[0], columns[0])
            levels = Levels(pattern=pattern, black_levels=raw.black_levels, white_level=raw.white_level)
            planes = as_rggb(normalise(raw.mosaic[rows[0] : rows[1], columns[0] : columns[1]], levels), pattern)
            made = as_rggb(self.planes(np.ascontiguousarray(planes), level), pattern)
            numbers = denormalise(made, levels, maximum=raw.saturation - 1)
            kept = numbers[rows[2] - rows[0] : rows[3] - rows[0], columns[2] - columns[0] : columns[3] - columns[0]]
            output[rows[2] : rows[3], columns[2] : columns[3]] = kept
        clipped = raw.mosaic >= raw.saturation
        return np.where(clipped, raw.mosaic, output)

    def planes(self, planes: Floats, level: NoiseLevel) -> Floats:
        """Denoise packed planes (4, h, w) of the RGGB geometry, linear, black 0 and white 1, of a noise level."""
        import torch

        from pipeline.inference.known_noise import combine, keep_levels

        predicted = self.predicted(planes, level)
        if self._blind:
            noisy = torch.from_numpy(on_curve(planes, level, self._curve))[None]
            noise = torch.tensor([level_on_curve(level, self._curve)], dtype=torch.float32)
            predicted = combine(noisy, torch.from_numpy(predicted)[None], noise)[0].numpy()
        made = off_curve(predicted, level, self._curve)
        linear = torch.from_numpy(np.ascontiguousarray(planes))[None]
        levelled: Floats = keep_levels(linear, torch.from_numpy(made)[None])[0].numpy()
        return levelled

    def predicted(self, planes: Floats, level: NoiseLevel) -> Floats:
        """What the network makes of planes as for `planes`, on the curve; a blind one, of no cell's own values."""
        return self.network.planes(on_curve(planes, level, self._curve), level_on_curve(level, self._curve))

    def remarks(self, camera: str, level: NoiseLevel) -> str:
        """Say where a file is unlike what the network was trained on; empty if it is not."""
        words = []
        cameras = self._facts.get("cameras") or []
        if camera and cameras and camera not in cameras:
            words.append(f"{camera} is not among the cameras trained on ({', '.join(cameras)})")
        for name, value in (("shot", level.shot), ("read", level.read)):
            known = self._facts.get(name)
            if isinstance(known, list) and len(known) == 2:
                low, high = known
                if not low / _RANGE <= value <= high * _RANGE:
                    words.append(f"{name} noise {value:.2g} is outside of the {low:.2g} to {high:.2g} trained on")
        return "; ".join(words)


def _spans(length: int) -> Iterator[Span]:
    """Whole cells, and once more for the last pixel of an odd length: whole cells that end with it."""
    whole = length // 2 * 2
    yield 0, whole, 0, whole
    if whole < length:
        yield length - min(_STRIP, whole), length, whole, length
