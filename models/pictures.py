"""Pictures as people have them, through a network: any size, grey, colour or alpha, whole numbers or floats.

What a registered model and the command line share, so that both give the same bytes.
"""

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .display_view import DisplayView, view_of_display
from .inference import denoise
from .inference_spec import InferenceSpec
from .level_offset import correct_offset
from .network import Network

FloatImage = NDArray[np.float32]


def denoise_picture(
    network: Network, pixels: NDArray[Any], spec: InferenceSpec, *, strength: float = 1.0
) -> NDArray[Any]:
    """Denoise one picture.

    Args:
        network: in evaluation mode.
        pixels: (H, W, C), C in 1..4, any H, W >= 1; uint8 or uint16 over their whole range, or floats with black 0
            and white 1, which `view_of_display` shows the network where they go beyond. `to_network` says what
            becomes of grey and colour; alpha, the last of 2 or 4 channels, stays as it is.
        spec: how to denoise.
        strength: 0 to 1, share of the way from the noisy picture to the denoised one.

    Returns:
        The same shape and dtype, floats as float32. Whole numbers are clipped and rounded to the nearest, floats are
        not clipped.

    Raises:
        ValueError: another shape or dtype, values that are not finite, or a network for other channels.
    """
    if pixels.ndim != 3 or pixels.shape[2] not in (1, 2, 3, 4) or 0 in pixels.shape:
        raise ValueError(f"a picture must have shape (H, W, C) with C in 1..4, got {pixels.shape}")
    if not 0 <= strength <= 1:
        raise ValueError(f"strength must be 0 to 1, got {strength}")
    white = np.iinfo(pixels.dtype).max if pixels.dtype in (np.uint8, np.uint16) else None
    if white is None and pixels.dtype.kind != "f":
        raise ValueError(f"pixels must be uint8, uint16 or floats in [0, 1], got {pixels.dtype}")
    image = pixels.astype(np.float32)
    if white is not None:
        image = image / np.float32(white)
    elif not np.isfinite(image).all():
        raise ValueError("pixels must be finite, got NaN or infinity")
    view = None if white is not None else view_of_display(image[..., : _colours(image)])
    seen = image if view is None else _shown(image, view)
    denoised = _with_offset(seen, _denoised(network, seen, spec), spec)
    if seen is not image and view is not None:
        denoised = _taken_back(denoised, seen, view)
    if strength < 1:
        denoised = image + np.float32(strength) * (denoised - image)
    if white is None:
        return denoised
    # float64, because float32 cannot hold 65535 * x + 0.5 exactly.
    whole: NDArray[Any] = np.rint(np.clip(denoised.astype(np.float64), 0.0, 1.0) * white).astype(pixels.dtype)
    return whole


def to_network(colours: FloatImage, channels: int) -> Tensor:
    """Turn a picture without alpha into what a network takes.

    Grey goes into a colour network as equal channels; the channels of a colour picture go into a grey network as
    pictures of their own.

    Args:
        colours: (H, W, C) float32.
        channels: of the network.

    Returns:
        (B, channels, H, W) float32.

    Raises:
        ValueError: no rule for these numbers of channels.
    """
    count = colours.shape[2]
    planes = torch.from_numpy(np.ascontiguousarray(colours.transpose(2, 0, 1)))
    if count == channels:
        return planes[None]
    if count == 1:
        return planes[None].expand(1, channels, -1, -1)
    if channels == 1:
        return planes[:, None]
    raise ValueError(f"expected a network for 1 or {count} channels, found {channels}")


def from_network(batch: Tensor, colours: int) -> FloatImage:
    """Undo `to_network`: (B, channels, H, W) to (H, W, colours); a grey picture is the mean of its channels."""
    result: FloatImage = batch.reshape(-1, *batch.shape[2:]).cpu().numpy().transpose(1, 2, 0)
    if result.shape[2] != colours:
        result = result.mean(axis=2, keepdims=True)
    return result


def _shown(image: FloatImage, view: DisplayView) -> FloatImage:
    colours, alpha = image[..., : _colours(image)], image[..., _colours(image) :]
    return image if view.fits(colours) else np.concatenate([view.show(colours), alpha], axis=2)


def _taken_back(denoised: FloatImage, seen: FloatImage, view: DisplayView) -> FloatImage:
    count = _colours(seen)
    colours = view.take_back(denoised[..., :count], float(np.abs(seen[..., :count]).max()))
    return np.concatenate([colours, denoised[..., count:]], axis=2)


def _denoised(network: Network, image: FloatImage, spec: InferenceSpec) -> FloatImage:
    count = _colours(image)
    # The offset is mended outside, where grey and alpha are what they were.
    batch = denoise(network, to_network(image[..., :count], network.channels), replace(spec, offset="keep"))
    return np.concatenate([from_network(batch, count), image[..., count:]], axis=2)


def _with_offset(noisy: FloatImage, denoised: FloatImage, spec: InferenceSpec) -> FloatImage:
    if spec.offset == "keep":
        return denoised
    count = _colours(noisy)
    planes = [
        torch.from_numpy(np.ascontiguousarray(each[..., :count].transpose(2, 0, 1))) for each in (noisy, denoised)
    ]
    changed = correct_offset(planes[0], planes[1], spec.offset).numpy().transpose(1, 2, 0)
    return np.concatenate([changed, denoised[..., count:]], axis=2)


def _colours(image: NDArray[Any]) -> int:
    return int(image.shape[2] - 1 if image.shape[2] in (2, 4) else image.shape[2])
