"""A test picture and its result, which travel with a registered model: what it does here is what it did there."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import UserError

if TYPE_CHECKING:
    from models import LoadedModel

PAIR: Final = "test.safetensors"
TOLERANCE: Final = 1e-4
"""Largest difference, a fortieth of a step of 8 bits: other processors and versions of PyTorch round otherwise."""

_HEIGHT, _WIDTH = 44, 52
"""Neither a multiple of any window, nor square."""

_NOISE: Final = (2e-3, 1e-4)
"""Shot and read variance that a network with a noise level map is told."""

_MAX_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class PairCheck:
    """What came of running the test picture again."""

    largest_difference: float
    """From the stored result, in the units of the network."""

    bytes_equal: bool
    """Whether it is the same picture in 8 bits."""


def write_pair(loaded: LoadedModel, folder: Path) -> NDArray[np.uint8]:
    """Write the test picture and its result into a weights folder, and return the picture, (H, W, C) uint8."""
    from safetensors.numpy import save

    noisy = _picture(loaded.network.channels)
    (folder / PAIR).write_bytes(save({"noisy": noisy, "denoised": _denoised(loaded, noisy)}))
    return noisy


def check_pair(loaded: LoadedModel, folder: Path) -> PairCheck:
    """Denoise the test picture of a weights folder with its network, and compare.

    Raises:
        UserError: there is no pair, it is none of this network, or the result is another.
    """
    where = folder / PAIR
    noisy, denoised = _read(where, loaded.network.channels)
    found = _denoised(loaded, noisy)
    difference = float(np.abs(found - denoised).max())
    if not difference <= TOLERANCE:  # NaN too
        raise UserError(
            f"{where}: the network's result differs by {difference:.2g} from the stored one, more than {TOLERANCE:g}: "
            "these are not the weights, or not the code, that were registered"
        )
    equal = bool(np.array_equal(_as_bytes(found), _as_bytes(denoised)))
    return PairCheck(largest_difference=difference, bytes_equal=equal)


def _read(path: Path, channels: int) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        with path.open("rb") as file:
            data = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise UserError(f"{path}: expected a test picture and its result, found {error.strerror}") from None
    try:
        tensors: dict[str, Any] = load(data) if len(data) <= _MAX_BYTES else {}
    except SafetensorError:
        tensors = {}
    noisy, denoised = tensors.get("noisy"), tensors.get("denoised")
    fits = (
        noisy is not None
        and denoised is not None
        and (noisy.dtype, denoised.dtype) == (np.uint8, np.float32)
        and noisy.shape == denoised.shape
        and noisy.ndim == 3
        and noisy.shape[2] == channels
        and noisy.size
    )
    if not fits:
        raise UserError(f"{path}: expected a test picture and its result for {channels} channels, found neither")
    assert noisy is not None
    assert denoised is not None
    return noisy, denoised


def _denoised(loaded: LoadedModel, noisy: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Run the network as its card says, without what is done around it for files."""
    import torch

    from models import denoise

    scaled = noisy.astype(np.float32) / np.float32(255)
    image = torch.from_numpy(np.ascontiguousarray(scaled.transpose(2, 0, 1)))[None]
    noise = torch.tensor([_NOISE], dtype=torch.float32) if loaded.network.level_map else None
    output = denoise(loaded.network, image, loaded.inference, noise=noise)[0]
    return np.ascontiguousarray(output.numpy().transpose(1, 2, 0))


def _picture(channels: int) -> NDArray[np.uint8]:
    """Draw a slope, a disc and stripes with noise of 20 grey levels: what denoisers can get wrong."""
    random = np.random.default_rng(7)
    rows, columns = np.mgrid[:_HEIGHT, :_WIDTH].astype(np.float64)
    scene = 60 + 2 * columns + 30 * np.sin(rows / 3)
    scene[np.hypot(rows - 15, columns - 18) < 9] = 215
    image = scene[..., None] * np.linspace(0.75, 1.0, channels) + random.normal(0, 20, (_HEIGHT, _WIDTH, channels))
    picture: NDArray[np.uint8] = np.rint(np.clip(image, 0, 255)).astype(np.uint8)
    return picture


def _as_bytes(image: NDArray[np.float32]) -> NDArray[np.uint8]:
    whole: NDArray[np.uint8] = np.rint(np.clip(image.astype(np.float64), 0, 1) * 255).astype(np.uint8)
    return whole
