"""Training pairs from the outputs of a teacher: a crop of a target, and the same of the photograph or with new noise.

A target is a picture with a file beside it (`origin_path`) that holds the photograph it was made from, and its noise;
`pipeline.training.targets` makes both.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.data.source import BatchSource
from pipeline.errors import UserError

if TYPE_CHECKING:
    import torch

    from noise.measured import MeasuredNoise

_SUFFIX = ".origin.safetensors"
_LIGHTLY = 1.25
"""Shrunk by less, an average over areas and a cubic kernel are the same but for aliasing."""


def origin_path(target: Path) -> Path:
    """Return where the photograph and the noise that belong to a target are kept."""
    return target.with_suffix(_SUFFIX)


def write_origin(path: Path, photo: np.ndarray, noise: MeasuredNoise) -> None:
    """Write a photograph (H, W, C), as it was decoded, and its noise, atomically."""
    import safetensors.numpy

    from pipeline.data.images import write_bytes

    tensors = {"photo": np.ascontiguousarray(photo), "sigma": noise.sigma, "kernel": noise.kernel}
    write_bytes(path, safetensors.numpy.save(tensors))


def read_noise(path: Path) -> MeasuredNoise:
    """Read the noise that `write_origin` wrote."""
    from noise.measured import MeasuredNoise

    with _opened(path) as file:
        return MeasuredNoise(sigma=file.get_tensor("sigma"), kernel=file.get_tensor("kernel"))


def read_square(path: Path, top: int, left: int, side: int) -> np.ndarray:
    """Read a square of the photograph that `write_origin` wrote, (side, side, C) as it was decoded."""
    with _opened(path) as file:
        square: np.ndarray = file.get_slice("photo")[top : top + side, left : left + side]
        return square


def _opened(path: Path) -> Any:
    """Open a file of `write_origin`: whatever is asked of it is read, and no more.

    Raises:
        UserError: it is not there, or no such file.
    """
    import safetensors

    try:
        file: Any = safetensors.safe_open(path, framework="np")
        if {"photo", "sigma", "kernel"} <= set(file.keys()):
            return file
        problem = "another file"
    except (OSError, safetensors.SafetensorError) as error:
        problem = str(error).strip()
    raise UserError(f"{path}: expected the photo and the noise of a target of this version, found {problem}")


@dataclass
class TargetSource(BatchSource):
    """A `BatchSource` whose samples are (photograph or target with new noise, target); `spec.distillation` says how."""

    _noises: dict[str, MeasuredNoise] = field(default_factory=dict)

    def _sample(self, index: int, position: int) -> tuple[np.ndarray, np.ndarray | None]:
        import torch

        from noise.measured import add_measured

        how = self.spec.distillation
        assert how is not None
        random = np.random.default_rng([self.spec.seed, index, position])
        if random.random() < how.photo_share:
            return self._with_photo(random)
        shrunk = random.random() < how.shrink_share
        # Evenly on a logarithmic scale, so that twice and half are as likely.
        factor = float(how.shrink ** random.random()) if shrunk else 1.0
        scale = float(np.exp(random.uniform(np.log(how.scale[0]), np.log(how.scale[1]))))
        path, clean = self._target(random, factor)
        clean = _turned(clean, random)
        generator = torch.Generator().manual_seed(int(random.integers(2**63 - 1)))
        noisy = add_measured(clean, self._noise(path), generator, scale=scale, tone=how.tone)
        # Rounded as the photographs are, whose weakest noise is little more than their rounding.
        noisy = (noisy.clamp(0, 1) * 255).round() / 255
        return noisy.numpy(), clean.numpy()

    def _with_photo(self, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Cut the same square of a photograph and of its target."""
        import torch

        from pipeline.data.held_out import Area
        from pipeline.data.images import to_float
        from pipeline.data.source import with_channels

        crop = self.spec.crop
        path, top, left = self._place(random, crop)
        square = read_square(origin_path(Path(path)), top, left, crop)
        photo = with_channels(to_float(square), self.spec.channels)
        target = self._square(Area(path, top, left, crop, crop))
        both = torch.from_numpy(np.concatenate([photo, target], axis=2, dtype=np.float32).transpose(2, 0, 1).copy())
        noisy, clean = _turned(both, random).chunk(2)
        return noisy.numpy(), clean.numpy()

    def _target(self, random: np.random.Generator, factor: float) -> tuple[str, torch.Tensor]:
        """Cut a square of a target and shrink it by ``factor``, or by as much as the target allows."""
        import torch

        from pipeline.data.images import to_float
        from pipeline.data.source import with_channels

        crop = self.spec.crop
        path, _, _ = self._place(random, crop)
        pixels = self._pixels(path)
        assert isinstance(pixels, np.ndarray)
        side = min(round(crop * factor), *pixels.shape[:2])
        top, left = (int(random.integers(length - side + 1)) for length in pixels.shape[:2])
        square = with_channels(to_float(pixels[top : top + side, left : left + side]), self.spec.channels)
        image = torch.from_numpy(np.ascontiguousarray(square.transpose(2, 0, 1), dtype=np.float32))
        if side == crop:
            return path, image
        mode = "area" if side < _LIGHTLY * crop else "bicubic"
        keywords = {} if mode == "area" else {"antialias": True}
        image = torch.nn.functional.interpolate(image[None], size=(crop, crop), mode=mode, **keywords)[0]
        return path, image.clamp(0, 1)

    def _noise(self, path: str) -> MeasuredNoise:
        if path not in self._noises:
            self._noises[path] = read_noise(origin_path(Path(path)))
        return self._noises[path]


def _turned(image: torch.Tensor, random: np.random.Generator) -> torch.Tensor:
    """Turn a square (C, H, W) by a multiple of 90 degrees, and mirror every other."""
    import torch

    turned = torch.rot90(image, int(random.integers(4)), (1, 2))
    return (turned.flip(2) if random.integers(2) else turned).contiguous()
