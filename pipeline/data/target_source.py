"""Training pairs from the outputs of a teacher: a crop of a target, and the same crop with new measured noise.

A target is a picture with a file of its noise beside it (`noise_path`); `pipeline.training.targets` makes both.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pipeline.data.source import BatchSource

if TYPE_CHECKING:
    import torch

    from noise.measured import MeasuredNoise

_NOISE_SUFFIX = ".noise.safetensors"
_LIGHTLY = 1.25
"""Shrunk by less, an average over areas and a cubic kernel are the same but for aliasing."""


def noise_path(target: Path) -> Path:
    """Return where the noise that belongs to a target is kept."""
    return target.with_suffix(_NOISE_SUFFIX)


def write_noise(path: Path, noise: MeasuredNoise) -> None:
    """Write measured noise atomically."""
    import safetensors.numpy

    from pipeline.data.images import write_bytes

    write_bytes(path, safetensors.numpy.save({"sigma": noise.sigma, "kernel": noise.kernel}))


def read_noise(path: Path) -> MeasuredNoise:
    """Read what `write_noise` wrote."""
    import safetensors.numpy

    from noise.measured import MeasuredNoise

    return MeasuredNoise(**safetensors.numpy.load_file(path))


@dataclass
class TargetSource(BatchSource):
    """A `BatchSource` whose samples are (target with new noise, target); `spec.distillation` says how."""

    _noises: dict[str, MeasuredNoise] = field(default_factory=dict)

    def _sample(self, index: int, position: int) -> tuple[np.ndarray, np.ndarray | None]:
        import torch

        from noise.measured import add_measured

        how = self.spec.distillation
        assert how is not None
        random = np.random.default_rng([self.spec.seed, index, position])
        shrunk = random.random() < how.shrink_share
        # Evenly on a logarithmic scale, so that twice and half are as likely.
        factor = float(how.shrink ** random.random()) if shrunk else 1.0
        scale = float(np.exp(random.uniform(np.log(how.scale[0]), np.log(how.scale[1]))))
        path, clean = self._target(random, factor)
        clean = torch.rot90(clean, int(random.integers(4)), (1, 2))
        if random.integers(2):
            clean = clean.flip(2)
        generator = torch.Generator().manual_seed(int(random.integers(2**63 - 1)))
        noisy = add_measured(clean.contiguous(), self._noise(path), generator, scale=scale, tone=how.tone)
        # Rounded as the photographs are, whose weakest noise is little more than their rounding.
        noisy = (noisy.clamp(0, 1) * 255).round() / 255
        return noisy.numpy(), np.ascontiguousarray(clean.numpy())

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
            self._noises[path] = read_noise(noise_path(Path(path)))
        return self._noises[path]
