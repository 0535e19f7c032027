"""A raw converter of our own: from the numbers of a file to an upright sRGB picture, or to linear light.

Levels, white balance, demosaicing, colour matrix and transfer curve are those of ``raw.isp``, the same code that
synthetic noise goes through. It works in bands of rows, so that beside the result only a few megabytes are taken.
"""

from collections.abc import Iterator
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from raw.camera import Camera
from raw.color import apply_ccm
from raw.isp import process
from raw.levels import Levels, normalise
from raw.raw_file import RawFile
from raw.rendering import Rendering, displayed

SHARP: Final = Rendering(demosaic="malvar", transfer="srgb")
"""Malvar's demosaicing and the sRGB curve: what a viewer expects of a photograph."""

_BAND_PIXELS: Final = 2**19
_HALO: Final = 4
"""Rows beside a band that its demosaicing looks at, even to keep the CFA pattern: 2 for Malvar, 2 for X-Trans."""

# Closer samples count more; 5x5 reach every colour of any 6x6 cell in use.
_NEARNESS: Final = (1.0, 4.0, 6.0, 4.0, 1.0)


def half_linear(raw: RawFile) -> NDArray[np.float32]:
    """Linear sRGB at half size, one pixel for each 2x2 cell, by the rule of LibRaw's half-size rendering.

    Black is subtracted, white balance applied with its least gain 1, and each of the four samples clipped to
    [0, 1], so that all colours saturate together; the greens are averaged, the colour matrix applied, and the
    result clipped. No interpolation, hence no correlated noise.

    Args:
        raw: of a Bayer sensor.

    Returns:
        (ceil(H/2), ceil(W/2), 3) linear sRGB in [0, 1], as the sensor lies: not turned upright.

    Raises:
        ValueError: ``raw`` is not of a Bayer sensor.
    """
    if raw.mosaic is None or raw.pattern is None:
        raise ValueError(f"half_linear needs a Bayer mosaic, got a raw file of kind {raw.kind!r}")
    planes = normalise(raw.mosaic, raw)
    red, green, blue = (gain / min(raw.white_balance) for gain in raw.white_balance)
    for plane, gain in zip(planes, np.array((red, green, green, blue), dtype=np.float32), strict=True):
        np.clip(np.multiply(plane, gain, out=plane), 0.0, 1.0, out=plane)
    planes[1] += planes[2]
    planes[1] *= np.float32(0.5)
    out = np.empty((*planes.shape[1:], 3), dtype=np.float32)
    for channel, row in enumerate(raw.rgb_cam.astype(np.float32)):
        target = out[..., channel]
        np.multiply(planes[0], row[0], out=target)
        target += planes[1] * row[1]
        target += planes[3] * row[2]
    return np.clip(out, 0.0, 1.0, out=out)


def develop(raw: RawFile, rendering: Rendering = SHARP) -> NDArray[np.float32]:
    """Develop a raw file of any kind into an upright picture.

    White is the level at which the data clip. White balance is applied with its least gain 1, so that saturated
    light of all colours turns white. X-Trans sensors are demosaiced by the mean of the samples near by, whatever
    ``rendering`` asks for; sensors without colour filters give grey, linear files need no demosaicing.

    Args:
        raw: kind ``bayer``, ``xtrans``, ``mono`` or ``linear``.
        rendering: choices of the converter.

    Returns:
        (H, W, 3) sRGB in [0, 1], upright, with square pixels.

    Raises:
        ValueError: ``raw`` holds no pixels, or its colour matrix has no inverse.
    """
    pixels = raw.mosaic if raw.mosaic is not None else raw.linear
    if pixels is None:
        raise ValueError(f"a raw file of kind {raw.kind!r} cannot be developed: {'; '.join(raw.notes) or 'no pixels'}")
    shape = (raw.width, raw.height, 3) if raw.flip & 4 else (raw.height, raw.width, 3)
    upright = np.empty(shape, dtype=np.float32)
    lying = _as_the_sensor_lies(upright, raw.flip)
    for inner, outer in _bands(raw.height, raw.width):
        part = pixels[outer]
        image = _bayer(part, raw, rendering) if raw.pattern is not None else _other(part, outer.start, raw, rendering)
        start = inner.start - outer.start
        lying[inner] = image.numpy().transpose(1, 2, 0)[start : start + inner.stop - inner.start, : raw.width]
    return _square_pixels(upright, raw)


def _bayer(mosaic: NDArray[np.uint16], raw: RawFile, rendering: Rendering) -> Tensor:
    """(3, H, W) sRGB, an odd side rounded up."""
    levels = Levels(pattern=raw.pattern or "RGGB", black_levels=raw.black_levels, white_level=raw.saturation)
    packed = torch.from_numpy(normalise(mosaic, levels)).div_(min(raw.white_balance))
    red, _, blue = raw.white_balance
    camera = Camera(
        rgb2cam=torch.linalg.inv(torch.from_numpy(raw.rgb_cam)).float(),
        rgb_gain=torch.tensor(1.0),
        red_gain=torch.tensor(red),
        blue_gain=torch.tensor(blue),
        pattern=levels.pattern,
    )
    result: Tensor = process(packed, camera, rendering)
    return result


def _other(pixels: NDArray[np.uint16], top: int, raw: RawFile, rendering: Rendering) -> Tensor:
    """(3, H, W) sRGB of rows that start at ``top`` of the visible part."""
    red, _, green, blue = raw.black_levels
    if raw.kind == "mono":
        gray = torch.from_numpy(pixels.astype(np.float32)).sub_(green).div_(raw.saturation - green)
        return displayed(gray.clamp_(0.0, 1.0).expand(3, -1, -1), rendering)
    black = torch.tensor((red, green, blue))[:, None, None]
    gains = torch.tensor(raw.white_balance)[:, None, None] / min(raw.white_balance) / (raw.saturation - black)
    if raw.cfa is None:
        balanced = torch.from_numpy(pixels.astype(np.float32)).permute(2, 0, 1).sub(black).mul_(gains).clamp_(0.0, 1.0)
    else:
        rows, columns = np.arange(top, top + pixels.shape[0]), np.arange(pixels.shape[1])
        colors = raw.cfa[rows[:, None] % len(raw.cfa), columns % raw.cfa.shape[1]]
        present = torch.stack([torch.from_numpy(colors == color) for color in range(3)]).float()
        samples = torch.from_numpy(pixels.astype(np.float32))
        balanced = _nearby_mean((samples - black).mul_(gains).clamp_(0.0, 1.0), present)
    return displayed(apply_ccm(balanced, torch.from_numpy(raw.rgb_cam).float()).clamp_(0.0, 1.0), rendering)


def _nearby_mean(samples: Tensor, present: Tensor) -> Tensor:
    """Fill in the colours that a mosaic lacks by means of the samples near by, weighted by nearness.

    Args:
        samples: (3, H, W), of which those count that are ``present``.
        present: (3, H, W), 1 where the mosaic has the colour, else 0.
    """
    weights = torch.tensor(_NEARNESS)
    kernel = torch.outer(weights, weights)[None, None]
    total = functional.conv2d((samples * present)[:, None], kernel, padding=2)[:, 0]
    found = functional.conv2d(present[:, None], kernel, padding=2)[:, 0]
    # A cell of no real sensor may lack a colour near by.
    return torch.where(present > 0, samples, total / found.clamp(min=min(_NEARNESS)))


def _bands(height: int, width: int) -> Iterator[tuple[slice, slice]]:
    """Bands of an even number of rows, and the same with the rows around them that demosaicing needs."""
    rows = max(2, _BAND_PIXELS // width // 2 * 2)
    for start in range(0, height, rows):
        stop = min(start + rows, height)
        yield slice(start, stop), slice(max(0, start - _HALO), min(height, stop + _HALO))


def _as_the_sensor_lies(upright: NDArray[np.float32], flip: int) -> NDArray[np.float32]:
    """A view of the upright picture in which rows and columns are those of the sensor."""
    turned = upright.transpose(1, 0, 2) if flip & 4 else upright
    return turned[:: -1 if flip & 2 else 1, :: -1 if flip & 1 else 1]


def _square_pixels(upright: NDArray[np.float32], raw: RawFile) -> NDArray[np.float32]:
    """Resize one side so that pixels become square; oblong ones are wider, or else higher, than the picture says."""
    if raw.pixel_aspect == 1:
        return upright
    along_columns = (raw.pixel_aspect > 1) != bool(raw.flip & 4)
    axis = 1 if along_columns else 0
    factor = max(raw.pixel_aspect, 1 / raw.pixel_aspect)
    places = np.arange(int(upright.shape[axis] * factor + 0.5)) / factor
    first = np.minimum(places.astype(np.int64), upright.shape[axis] - 1)
    second = np.minimum(first + 1, upright.shape[axis] - 1)
    share = (places - first).astype(np.float32)[:, None] if axis else (places - first).astype(np.float32)[:, None, None]
    return np.asarray(upright.take(first, axis) * (1 - share) + upright.take(second, axis) * share, dtype=np.float32)
