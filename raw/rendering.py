"""How a raw is developed: the choices of a raw converter that change what noise looks like afterwards."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from raw.tone import gamma_compression, smoothstep, srgb_compression


@dataclass(frozen=True, kw_only=True, slots=True)
class Rendering:
    """Choices of ``raw.isp.process``. The defaults are those of Brooks et al. (CVPR 2019)."""

    __pydantic_config__: ClassVar = {"extra": "forbid", "use_attribute_docstrings": True}

    demosaic: Literal["bilinear", "malvar"] = "bilinear"
    """Interpolation of the missing colours; ``malvar`` is sharper, and shares its noise between the channels."""

    transfer: Literal["gamma", "srgb"] = "gamma"
    """Linear to display: a pure power of 1/2.2, or the sRGB curve (IEC 61966-2-1)."""

    tone: Literal["none", "smoothstep"] = "none"
    """Tone curve after the transfer: the smoothstep that ``unprocess`` undoes, or none."""

    clip_black: bool = True
    """Cut what noise takes below black before demosaicing, as the paper does. False leaves it until the end, as
    converters do that keep the sensor's pedestal: averages of dark areas then stay true."""

    saturation: float = 1.0
    """Distance of linear colours from the mean of their three channels, in parts of what the colour matrix gives; less
    than 1 makes channels share their noise."""

    brighten: bool = False
    """Multiply by ``Camera.rgb_gain`` again, which ``unprocess`` has divided by."""


def displayed(linear: Tensor, rendering: Rendering) -> Tensor:
    """The last steps of a converter: from linear light in [0, 1], any shape, to sRGB in [0, 1]."""
    shown = gamma_compression(linear) if rendering.transfer == "gamma" else srgb_compression(linear)
    return smoothstep(shown) if rendering.tone == "smoothstep" else shown
