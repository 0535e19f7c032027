"""How a raw is developed: the choices of a raw converter that change what noise looks like afterwards."""

from dataclasses import dataclass
from typing import ClassVar, Literal


@dataclass(frozen=True, kw_only=True, slots=True)
class Rendering:
    """Choices of ``raw.isp.process``. The defaults are those of Brooks et al. (CVPR 2019)."""

    __pydantic_config__: ClassVar = {"extra": "forbid", "use_attribute_docstrings": True}

    demosaic: Literal["bilinear", "malvar"] = "bilinear"
    """Interpolation of the missing colours; ``malvar`` is sharper, and correlates noise less but across channels."""

    transfer: Literal["gamma", "srgb"] = "gamma"
    """Linear to display: a pure power of 1/2.2, or the sRGB curve (IEC 61966-2-1)."""

    tone: Literal["none", "smoothstep"] = "none"
    """Tone curve after the transfer: the smoothstep that ``unprocess`` undoes, or none."""

    brighten: bool = False
    """Multiply by ``Camera.rgb_gain`` again, which ``unprocess`` has divided by."""
