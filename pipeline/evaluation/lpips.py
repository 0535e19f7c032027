"""LPIPS v0.1 with AlexNet: Zhang et al. 2018, "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric".

Two sets of weights are needed that we may not hand on: torchvision's AlexNet, and the linear layers of LPIPS. Whoever
has them names their folder in the environment variable ``UNVEIL_LPIPS``. They are read as all foreign weights are, in a
child process that runs no code of theirs.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipeline.data.paths import shown
from pipeline.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

    from raw.child_process import ChildProcess

VARIABLE = "UNVEIL_LPIPS"
"""Environment variable that names the folder."""

LEAST = 31
"""Smallest side: below, the second pooling finds nothing to pool."""

_SHIFT = (-0.030, -0.088, -0.188)
_SCALE = (0.458, 0.448, 0.450)
_EPSILON = 1e-10
_SUFFIXES = (".pth", ".pt", ".safetensors")
_WANTED = (
    f"set {VARIABLE} to a folder with torchvision's AlexNet weights (alexnet*.pth) and the linear layers of LPIPS v0.1 "
    "(alex.pth, in weights/v0.1 of the package lpips); .safetensors of them do too"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Layer:
    """A convolution of AlexNet; ReLU follows it."""

    index: int
    """Its place in torchvision's ``features``."""

    shape: tuple[int, int, int, int]
    """Of its weight: output channels, input channels, height, width."""

    stride: int = 1
    padding: int = 1
    pooled: bool = False
    """Whether 3x3 max-pooling with stride 2 comes before it."""


_LAYERS = (
    _Layer(index=0, shape=(64, 3, 11, 11), stride=4, padding=2),
    _Layer(index=3, shape=(192, 64, 5, 5), padding=2, pooled=True),
    _Layer(index=6, shape=(384, 192, 3, 3), pooled=True),
    _Layer(index=8, shape=(256, 384, 3, 3)),
    _Layer(index=10, shape=(256, 256, 3, 3)),
)

_lock = threading.Lock()
_loaded: dict[tuple[tuple[Path, int, int], ...], dict[str, Tensor]] = {}


def lpips_alex(image: NDArray[Any], clean: NDArray[Any], *, bgr: bool = False) -> float:
    """Return the distance: 0 for equal images, about 0.1 for a good and 0.5 for a bad restoration.

    Both images, scaled to [-1, 1], go through five layers of AlexNet. After each, the features of a position are
    divided by their norm; their squared difference, weighted per channel by the linear layer, is averaged over the
    positions; the five averages are added.

    Args:
        image: (H, W, 1 or 3) in [0, 255], H and W at least 31; one channel stands for three equal ones.
        clean: same shape.
        bgr: give the network blue for red and red for blue, as who reads files with OpenCV and forgets it.

    Raises:
        ValueError: the images have another number of channels.
        UserError: the weights are not there, or not what they should be.
    """
    import torch

    if image.shape[2] not in (1, 3):
        raise ValueError(f"LPIPS needs one or three channels, got {image.shape[2]}")
    weights = lpips_weights(lpips_folder())
    with torch.inference_mode():
        both = [_features(_prepared(side, bgr), weights) for side in (image, clean)]
        total = 0.0
        for number, (first, second) in enumerate(zip(*both, strict=True)):
            squared = (_normalised(first) - _normalised(second)).square()
            linear = weights[f"lin{number}.model.1.weight"]
            total += float(torch.nn.functional.conv2d(squared, linear).mean())
    return total


def lpips_folder() -> Path | None:
    """Return the folder that the environment names, or None if it names none."""
    named = os.environ.get(VARIABLE)
    return Path(named) if named else None


def lpips_weights(folder: Path | None, reader: ChildProcess | None = None) -> dict[str, Tensor]:
    """Return the weights of both files by name, read once for each version of the files.

    Args:
        folder: as of `lpips_folder`.
        reader: child that runs `pipeline.weights_reader`; by default one for these files alone.

    Raises:
        UserError: no folder, a file is missing, or holds something else.
    """
    trunk, linear = lpips_files(folder)
    key = tuple((path, path.stat().st_size, path.stat().st_mtime_ns) for path in (trunk, linear))
    with _lock:
        if key not in _loaded:
            features = {
                f"features.{layer.index}.{part}": layer.shape if part == "weight" else layer.shape[:1]
                for layer in _LAYERS
                for part in ("weight", "bias")
            }
            lins = {f"lin{number}.model.1.weight": (1, layer.shape[0], 1, 1) for number, layer in enumerate(_LAYERS)}
            read = {
                **_checked(trunk, "features.", features, "torchvision's AlexNet", reader),
                **_checked(linear, "lin", lins, "the linear layers of LPIPS for AlexNet", reader),
            }
            _loaded.clear()
            _loaded[key] = read
        return _loaded[key]


def lpips_files(folder: Path | None) -> tuple[Path, Path]:
    """Return the files of AlexNet and of the linear layers in the folder.

    Raises:
        UserError: no folder was named, or it does not hold exactly one of each.
    """
    if folder is None:
        raise UserError(f"LPIPS needs weights that are not part of unveil: {_WANTED}")
    if not folder.is_dir():
        raise UserError(f"{VARIABLE}={shown(folder)}: expected a folder, found none; {_WANTED}")
    files = sorted(path for path in folder.iterdir() if path.suffix in _SUFFIXES and path.is_file())
    trunks = [path for path in files if path.name.startswith("alexnet")]
    linears = [path for path in files if path.stem == "alex"]
    if len(trunks) != 1 or len(linears) != 1:
        raise UserError(
            f"{VARIABLE}={shown(folder)}: expected one alexnet* and one alex file, found {len(trunks)} and "
            f"{len(linears)}; {_WANTED}"
        )
    return trunks[0], linears[0]


def _checked(
    path: Path, prefix: str, shapes: Mapping[str, tuple[int, ...]], what: str, reader: ChildProcess | None
) -> dict[str, Tensor]:
    import torch

    from pipeline.weights_import import read_weights

    weights = read_weights(path, first=next(iter(shapes)), prefix=prefix, what=what, reader=reader)
    found = dict(zip(weights.names, weights.arrays, strict=True))
    for name, shape in shapes.items():
        if name not in found or found[name].shape != shape:
            other = f"shape {found[name].shape}" if name in found else "none"
            raise UserError(f"{shown(path)}: expected {what}, with {name} of shape {shape}, found {other}")
        if not np.isfinite(found[name]).all():
            raise UserError(f"{shown(path)}: expected finite weights, found others in {name}")
    return {name: torch.from_numpy(found[name]) for name in shapes}


def _prepared(image: NDArray[Any], bgr: bool) -> Tensor:
    """(H, W, 1 or 3) in [0, 255] to (1, 3, H, W) as the network was trained to see it."""
    import torch

    colours = np.broadcast_to(image, (*image.shape[:2], 3))
    if bgr:
        colours = colours[..., ::-1]
    # Contiguous, because the layout decides the order of sums: the same picture must give the same digits.
    scaled = torch.from_numpy(np.ascontiguousarray(colours.transpose(2, 0, 1)[None] / 127.5 - 1, np.float32))
    return (scaled - torch.tensor(_SHIFT)[:, None, None]) / torch.tensor(_SCALE)[:, None, None]


def _features(tensor: Tensor, weights: dict[str, Tensor]) -> list[Tensor]:
    from torch.nn import functional

    features = []
    for layer in _LAYERS:
        if layer.pooled:
            tensor = functional.max_pool2d(tensor, 3, stride=2)
        weight, bias = (weights[f"features.{layer.index}.{part}"] for part in ("weight", "bias"))
        tensor = functional.relu(functional.conv2d(tensor, weight, bias, layer.stride, layer.padding))
        features.append(tensor)
    return features


def _normalised(features: Tensor) -> Tensor:
    return features / (features.square().sum(dim=1, keepdim=True).sqrt() + _EPSILON)
