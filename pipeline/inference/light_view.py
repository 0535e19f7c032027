"""What a network trained on display pictures is shown of linear light, such as an EXR file holds."""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models import Curve, DisplayView
from models.display_view import pixels_among, power_of_two
from pipeline.data.light import decode_light, encode_light

FloatImage = NDArray[np.float32]

KEY: Final = 0.18
"""Brightness that the log-average of linear light is brought near to (Reinhard et al., SIGGRAPH 2002)."""

SRGB: Final = Curve(encode_light, decode_light)

_LUMINANCE = np.array([0.2126, 0.7152, 0.0722])


def view_of_light(colours: FloatImage) -> DisplayView:
    """Choose the exposure of linear light (H, W, C), finite: the log-average of what is lit comes near 0.18."""
    some = pixels_among(colours)
    luminance = some @ _LUMINANCE if some.shape[1] == 3 else some.mean(axis=1)
    lit = luminance[luminance > 0]
    return DisplayView(exposure=power_of_two(KEY / math.exp(np.log(lit).mean())) if lit.size else 1.0, curve=SRGB)
