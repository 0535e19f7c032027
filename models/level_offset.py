"""Brightness and colour offset of a network: measured and mended without a clean image.

Networks trained with masks meet inputs without any at inference, and then may get brightness or colour wrong while
the structure is right; the released code of arXiv 2303.13132 patched it by histogram matching. What is used here:
noise averages out over an area, so the low frequencies of the noisy image are those of the clean one, and
``denoised - noisy``, averaged over blocks, is the error of the network.

* Blocks in which noise is clipped at black or white are left out: there its mean is not zero.
* So are outliers (dots of salt and pepper), which have no zero mean either.
* Standard errors come from the spread of the blocks, so they hold for spatially correlated noise too.

The mend is a polynomial of the second degree in the channels (Hong, Luo and Rhodes 2001 use it to characterise
cameras), fitted to blocks: a wrong offset, contrast, saturation or tone curve, but no structure, can be told by it.
What cannot be seen from here: noise whose mean is not zero where it was made, such as that of a raw clipped at
black before it was developed.

Of an image above 4 megapixels, stripes of rows spread evenly over it are looked at: they are enough, and who denoises
a larger image band by band need not keep the rest (`sampled_rows`).
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Offset = Literal["keep", "level"]

_STEP = 1 / 255
_BLOCKS = (16, 8)
_FEWEST_BLOCKS = 16
# Of the fit, which has ten unknowns for three channels.
_FEWEST_FITTED = 64
# At most this share of clipped pixels moves the mean of Gaussian noise by less than 0.01 of its deviation.
_CLIPPED_SHARE = 0.02
_OUTLIER_DEVIATIONS = 6.0
_SAMPLES = 300_000
# For each pixel: holds the polynomial back where few blocks say what it is.
_RIDGE = 3e-5
_SAMPLED_PIXELS = 1 << 22
# Whole squares of 2x2 blocks.
_STRIPE = 64


@dataclass(frozen=True, kw_only=True, slots=True)
class LevelOffset:
    """How far a denoised image is from the levels of the noisy one; black is 0 and white 1."""

    mean: tuple[float, ...]
    """Denoised minus noisy, one number a channel, over the blocks that can be used."""

    standard_error: tuple[float, ...]
    """Of ``mean``."""

    smooth: float
    """Root mean square of denoised minus noisy at 32 pixels and coarser, noise accounted for: mean, tone and
    colour errors and whatever changes over the image."""

    used: float
    """Share of the pixels that the numbers come from."""

    @property
    def significant(self) -> bool:
        """Whether a channel's mean is more than three standard errors from zero."""
        return any(abs(mean) > 3 * error for mean, error in zip(self.mean, self.standard_error, strict=True))

    @property
    def visible(self) -> bool:
        """Whether it is worth mending: a mean of more than one step of 8 bits, beyond chance, or two smoothly."""
        means = zip(self.mean, self.standard_error, strict=True)
        return self.smooth > 2 * _STEP or any(abs(mean) > max(_STEP, 3 * error) for mean, error in means)


def sampled_rows(height: int, width: int) -> list[tuple[int, int]]:
    """Return the rows of an image that the offset is measured on, as [start, stop): all of them up to 4 megapixels.

    An image made of the sampled rows alone is sampled whole, so that both give the same numbers.
    """
    count = max(1, _SAMPLED_PIXELS // (_STRIPE * width))
    if height * width <= _SAMPLED_PIXELS or count * _STRIPE >= height:
        return [(0, height)]
    starts = [(2 * index + 1) * height // (2 * count) - _STRIPE // 2 for index in range(count)]
    return [(start, start + _STRIPE) for start in starts]


def _sampled(image: Tensor) -> Tensor:
    """The sampled rows of (C, H, W), one below the other."""
    rows = sampled_rows(*image.shape[1:])
    return (
        image if len(rows) == 1 and rows[0] == (0, image.shape[1]) else torch.cat([image[:, a:b] for a, b in rows], 1)
    )


def measure_offset(noisy: Tensor, denoised: Tensor) -> LevelOffset | None:
    """Measure the offset of a denoised image from its noisy original.

    Args:
        noisy: (C, H, W) float in [0, 1].
        denoised: (C, H, W) float, clipped or not.

    Returns:
        The offset, or None where fewer than 16 blocks of 8x8 can be used: a small image, or a clipped one.
    """
    noisy, denoised = _sampled(noisy), _sampled(denoised)
    for side in _BLOCKS:
        blocks = _Blocks(noisy, denoised, side)
        if blocks.fewest >= (_FEWEST_FITTED if side == _BLOCKS[0] else _FEWEST_BLOCKS):
            return _measured(blocks, noisy[0].numel())
    return None


@dataclass(frozen=True, kw_only=True, slots=True)
class LevelCurve:
    """The polynomial that mends an offset, as `fit_offset` found it."""

    factors: tuple[tuple[float, ...], ...]
    """One number a term (`_terms`), for each channel."""

    low: Tensor
    """(C, C, 1, 1): for each channel that is mended the lowest levels that were seen; beyond, nothing is known."""

    high: Tensor
    """The same for the highest levels."""

    strength: float
    """In (0, 1]: how much of it is applied."""

    def applied(self, denoised: Tensor) -> Tensor:
        """Return (C, H, W) float32 mended; any part of the image may be given, each pixel is mended by itself."""
        return denoised.float() + self.change(denoised.float()) * self.strength

    def change(self, denoised: Tensor) -> Tensor:
        """Return what is added at full strength, (C, H, W) float32."""
        change = torch.zeros_like(denoised)
        for channel, factors in enumerate(self.factors):
            seen = denoised.clamp(self.low[channel].to(denoised), self.high[channel].to(denoised))
            for factor, term in zip(factors, _terms(seen, channel), strict=True):
                change[channel] += factor * term[0]
        return change


def fit_offset(noisy: Tensor, denoised: Tensor) -> LevelCurve | None:
    """Find what mends the offset of a denoised image; see `correct_offset`.

    Returns:
        The curve, or None where nothing is to be mended, or too little of the image can be used.
    """
    noisy, denoised = _sampled(noisy), _sampled(denoised).float()
    for side in _BLOCKS:
        blocks = _Blocks(noisy, denoised, side)
        if blocks.fewest >= _FEWEST_FITTED:
            return _fitted(blocks, denoised)
    return None


def correct_offset(noisy: Tensor, denoised: Tensor, how: Offset) -> Tensor:
    """Mend the offset of a denoised image.

    Args:
        noisy: (C, H, W) float in [0, 1].
        denoised: (C, H, W) float, not clipped.
        how: "keep" returns ``denoised``. "level" adds the polynomial of its channels that brings the means of
            blocks nearest to those of ``noisy``; all of it where that moves the image by two steps of 8 bits or
            more (root mean square of the channel moved most, fitting noise accounted for), nothing up to one step,
            in proportion between the two, so that an image without an offset stays as it is.

    Returns:
        (C, H, W) float32, not clipped.
    """
    curve = fit_offset(noisy, denoised) if how == "level" else None
    return denoised.float() if curve is None else curve.applied(denoised)


class _Blocks:
    """Sums over square blocks of what the estimates need; blocks that cannot be used count zero pixels."""

    def __init__(self, noisy: Tensor, denoised: Tensor, side: int) -> None:
        self.side = side
        noisy = noisy.to(denoised.device, torch.float32)
        difference = denoised.float() - noisy
        centre, deviation = _centre_and_deviation(difference)
        self.inlier = (difference - centre).abs() <= _OUTLIER_DEVIATIONS * deviation
        clipped = self.inlier & ((noisy < _STEP / 2) | (noisy > 1 - _STEP / 2))
        pixels = self.sums(self.inlier)
        usable = (self.sums(clipped) <= _CLIPPED_SHARE * pixels) & (pixels >= side * side / 2)
        self.pixels = pixels * usable
        """(C, rows, columns) float64: pixels that count in each block."""
        self.difference = self.sums(difference * self.inlier) * usable
        self.fewest = int(usable.sum((1, 2)).min()) if usable.numel() else 0

    def sums(self, image: Tensor) -> Tensor:
        """(C, H, W) to float64 sums over whole blocks on the CPU, (C, H // side, W // side)."""
        if min(image.shape[-2:]) < self.side:
            return torch.zeros(image.shape[0], 0, 0, dtype=torch.float64)
        return F.avg_pool2d(image.float()[None], self.side)[0].double().cpu() * self.side**2


def _centre_and_deviation(difference: Tensor) -> tuple[Tensor, Tensor]:
    """Median, and half the distance of the quantiles at one deviation of a normal: (C, 1, 1) each."""
    values = difference.flatten(1)
    values = values[:, :: -(-values.shape[1] // _SAMPLES)].sort(dim=1).values
    low, middle, high = (values[:, int(share * (values.shape[1] - 1))] for share in (0.1587, 0.5, 0.8413))
    # Where half of the pixels are equal, as under salt and pepper, rounding is all the noise there is.
    deviation = ((high - low) / 2).clamp_min(_STEP)
    return middle[:, None, None], deviation[:, None, None]


def _measured(blocks: _Blocks, pixels: int) -> LevelOffset:
    counts, sums = blocks.pixels.flatten(1), blocks.difference.flatten(1)
    mean = sums.sum(1) / counts.sum(1)
    used = (counts > 0).sum(1)
    spread = (sums - mean[:, None] * counts).square().sum(1) * used / (used - 1)
    error = spread.sqrt() / counts.sum(1)
    return LevelOffset(
        mean=tuple(mean.tolist()),
        standard_error=tuple(error.tolist()),
        smooth=_smooth(blocks, mean),
        used=float(counts.sum()) / (len(counts) * pixels),
    )


def _smooth(blocks: _Blocks, mean: Tensor) -> float:
    """Root mean square of the offset over squares of 2x2 blocks, less what the spread inside them explains."""
    ratio = blocks.difference / blocks.pixels.clamp_min(1.0)
    rows, columns = (size // 2 for size in ratio.shape[1:])

    def squares(image: Tensor) -> Tensor:
        cut = image[:, : 2 * rows, : 2 * columns].reshape(len(image), rows, 2, columns, 2)
        return cut.transpose(2, 3).reshape(len(image), rows * columns, 4)

    whole = (squares(blocks.pixels) > 0).all(2)
    if not bool(whole.any(1).all()):
        return float(mean.square().mean().sqrt())
    values = squares(ratio)
    excess = values.mean(2).square() - values.var(2) / 4
    return float((excess * whole).sum(1).div(whole.sum(1)).mean().clamp_min(0).sqrt())


def _fitted(blocks: _Blocks, denoised: Tensor) -> LevelCurve | None:
    every, lows, highs, chances = [], [], [], []
    for channel in range(len(denoised)):
        inlier = blocks.inlier[channel : channel + 1]
        usable = blocks.pixels[channel] > 0
        # Every sum over n pixels has a variance proportional to n.
        scale = blocks.pixels[channel][usable].rsqrt()
        columns = [blocks.sums(term * inlier)[0][usable] * scale for term in _terms(denoised, channel)]
        design, goal = torch.stack(columns, 1), -blocks.difference[channel][usable] * scale
        normal = design.T @ design
        pixels = float(blocks.pixels[channel].sum())
        ridge = _RIDGE * pixels * torch.eye(len(normal), dtype=normal.dtype)
        factors = torch.linalg.solve(normal + ridge, design.T @ goal)
        left = goal - design @ factors
        variance = float(left.square().sum()) / (len(left) - len(factors))
        # A level that no block shows is changed like the nearest one shown: a polynomial says nothing beyond.
        levels = blocks.sums(denoised * inlier)[:, usable] / blocks.pixels[channel][usable]
        low, high = levels.aminmax(dim=1)
        every.append(tuple(factors.tolist()))
        lows.append(low)
        highs.append(high)
        chances.append(variance * len(factors) / pixels)
    low, high = (torch.stack(ends)[..., None, None] for ends in (lows, highs))
    curve = LevelCurve(factors=tuple(every), low=low, high=high, strength=1.0)
    moved = [float(channel.double().square().mean()) for channel in curve.change(denoised)]
    size = max(0.0, *(move - chance for move, chance in zip(moved, chances, strict=True))) ** 0.5
    strength = min(max(size / _STEP - 1, 0.0), 1.0)
    return replace(curve, strength=strength) if strength else None


def _terms(image: Tensor, channel: int) -> Iterator[Tensor]:
    """Monomials up to the second degree, (1, H, W) each: of all channels, or of one where there are many."""
    channels = range(len(image)) if len(image) <= 4 else (channel,)
    yield torch.ones_like(image[:1])
    for one in channels:
        yield image[one : one + 1]
        for other in channels:
            if other <= one:
                yield image[one : one + 1] * image[other : other + 1]
