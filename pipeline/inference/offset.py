"""The brightness or colour offset of a denoised picture from its noisy original: measured, told and mended."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.data.image_types import without_alpha
from pipeline.data.paths import shown

if TYPE_CHECKING:
    from torch import Tensor

    from pipeline.inference.denoiser import Denoiser
    from pipeline.inference.results import FileResult

FloatImage = NDArray[np.float32]


def denoise_measured(denoiser: Denoiser, image: FloatImage) -> tuple[FloatImage, dict[str, Any] | None]:
    """Denoise, and measure the network's offset before anything is done about it.

    Args:
        denoiser: any.
        image: (H, W, C) float32 in [0, 1], C in 1..4; alpha does not count.

    Returns:
        The picture as the denoiser makes it, and: ``mean_255`` and ``standard_error_255``, one number a colour
        channel, and ``smooth_255`` (all in units of 1/255; see `models.LevelOffset`), ``used`` (share of the
        pixels), ``visible`` and ``corrected`` (whether the picture was changed). None for them where nothing can be
        measured: a picture that is small, or clipped almost everywhere.
    """
    from pipeline.inference.denoiser import NetworkDenoiser

    if not isinstance(denoiser, NetworkDenoiser):
        result = denoiser(image)
        return result, offset_of(image, result)
    plain = denoiser.uncorrected(image)
    result = mended(image, plain, denoiser.inference.offset)
    return result, offset_of(image, plain, corrected=not np.array_equal(result, plain))


def offset_of(noisy: FloatImage, denoised: FloatImage, *, corrected: bool = False) -> dict[str, Any] | None:
    """Return the numbers of `denoise_measured` for a pair of pictures; None for what is no picture either."""
    from models import measure_offset

    if denoised.shape != noisy.shape or not np.isfinite(denoised).all():
        return None
    found = measure_offset(planes(noisy), planes(denoised))
    if found is None:
        return None
    return {
        "mean_255": [round(255 * value, 4) for value in found.mean],
        "standard_error_255": [round(255 * value, 4) for value in found.standard_error],
        "smooth_255": round(255 * found.smooth, 4),
        "used": round(found.used, 4),
        "visible": found.visible,
        "corrected": corrected,
    }


def mended(noisy: FloatImage, denoised: FloatImage, how: Literal["keep", "level"]) -> FloatImage:
    """Return ``denoised`` with its offset mended as `models.correct_offset` does; alpha stays."""
    from models import correct_offset

    if how == "keep":
        return denoised
    changed = correct_offset(planes(noisy), planes(denoised), how).numpy().transpose(1, 2, 0)
    result: FloatImage = np.concatenate([changed, denoised[..., changed.shape[2] :]], axis=2)
    return result


def told(files: Sequence[FileResult]) -> str | None:
    """Return a line about the files whose brightness or colour is visibly off, or None."""
    known = [(file.offset, file.source) for file in files if file.offset is not None]
    off = sorted((offset["smooth_255"], source) for offset, source in known if offset["visible"])
    if not off:
        return None
    worst, source = off[-1]
    mended_too = all(offset["corrected"] for offset, _ in known if offset["visible"])
    what = "mended" if mended_too else "--offset level mends it"
    return (
        f"the network's brightness or colour is off in {len(off)} of {len(known)} files, most by {worst:.1f}/255 "
        f"({shown(source)}): {what}"
    )


def planes(image: FloatImage) -> Tensor:
    """Return (H, W, C) as a tensor (C, H, W) without alpha."""
    import torch

    return torch.from_numpy(np.ascontiguousarray(without_alpha(image).transpose(2, 0, 1)))
