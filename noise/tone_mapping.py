"""Rendered radiance to a display image: what makes a Monte-Carlo rendering and its reference a test pair.

Chen et al. (CVPR 2023, arXiv 2303.13132) test on path-traced pictures "tone-mapped to sRGB" without naming the
operator, so it is a choice here: exposure by the key of the scene (Reinhard et al., SIGGRAPH 2002, equations 1
and 2), then an operator, then the sRGB curve. A tone curve bends noise, so its mean is not the tone-mapped mean:
part of the error of a noisy rendering is bias, which grows with the noise and differs from operator to operator.
"""

import math
from dataclasses import dataclass
from typing import ClassVar, Final, Literal

import torch
from torch import Tensor

from raw.tone import gamma_compression, srgb_compression

LUMINANCE: Final = (0.2126, 0.7152, 0.0722)
"""Weights of linear R, G and B (Rec. 709 primaries, those of sRGB)."""

ACES_FIT: Final = (2.51, 0.03, 2.43, 0.59, 0.14)
"""Narkowicz' rational fit (2015) to the film curve of the Academy Color Encoding System."""

BRIGHTEST: Final = 1e6
"""All operators are white long before; the limit keeps infinity divided by infinity away."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ToneMapping:
    """How radiance becomes an image; one exposure for a noisy rendering and its reference."""

    __pydantic_config__: ClassVar = {"extra": "forbid", "use_attribute_docstrings": True}

    kind: Literal["monte_carlo"] = "monte_carlo"
    """Tag of this recipe, which draws nothing: the noise is in the rendering."""

    operator: Literal["reinhard", "aces", "clip"] = "reinhard"
    """Compression of highlights, channel by channel: x / (1 + x); Narkowicz' fit of the ACES film curve; or none,
    so that what is brighter than white is cut off."""

    transfer: Literal["srgb", "gamma"] = "srgb"
    """Linear to display: the sRGB curve (IEC 61966-2-1), or a pure power of 1/2.2."""

    key: float | None = 0.18
    """Brightness that the log-average luminance of the reference is brought to; None leaves the radiance alone."""

    def __post_init__(self) -> None:
        if self.key is not None and not 0 < self.key < math.inf:
            raise ValueError(f"key must be finite and > 0, got {self.key}")


def exposure_of(reference: Tensor, key: float | None) -> float:
    """Factor that brings the log-average luminance of a rendering to ``key``.

    Pixels without light are left out: a black background does not call for a longer exposure.

    Args:
        reference: (3, H, W) linear radiance >= 0 without NaN; see `finite_radiance`. Of a pair take the reference,
            because the log-average of a noisy rendering falls with its noise.
        key: wanted log-average; None returns 1.
    """
    if key is None:
        return 1.0
    luminance = torch.einsum("chw,c->hw", reference.double(), torch.tensor(LUMINANCE, dtype=torch.float64))
    lit = luminance[luminance > 0]
    return key / math.exp(lit.log().mean().item()) if lit.numel() else 1.0


def tone_map(radiance: Tensor, mapping: ToneMapping, exposure: float) -> Tensor:
    """Map linear radiance to a display image.

    Args:
        radiance: any shape, linear, >= 0, without NaN.
        mapping: operator and transfer curve.
        exposure: of `exposure_of` for the reference of the pair.

    Returns:
        The same shape, [0, 1].
    """
    x = (radiance * exposure).clamp(max=BRIGHTEST)
    if mapping.operator == "reinhard":
        compressed = x / (1.0 + x)
    elif mapping.operator == "aces":
        a, b, c, d, e = ACES_FIT
        compressed = x * (a * x + b) / (x * (c * x + d) + e)
    else:
        compressed = x
    curve = srgb_compression if mapping.transfer == "srgb" else gamma_compression
    return curve(compressed.clamp(0.0, 1.0))


def finite_radiance(radiance: Tensor) -> tuple[Tensor, int]:
    """Replace what is no radiance: NaN and values below 0 become 0; infinity becomes the largest finite value.

    Args:
        radiance: (3, H, W) of a renderer.

    Returns:
        The repaired radiance, and the number of pixels that held NaN or infinity in any channel. (Reconstruction
        filters with negative lobes make values below 0; they are not counted.)
    """
    broken = ~torch.isfinite(radiance)
    largest = torch.finfo(radiance.dtype).max
    repaired = torch.nan_to_num(radiance, nan=0.0, posinf=largest, neginf=0.0).clamp_(min=0.0)
    return repaired, int(broken.any(dim=-3).sum().item())
