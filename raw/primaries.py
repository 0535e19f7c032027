"""The primaries of linear sRGB (IEC 61966-2-1) as a constant that needs no torch: readers of raw files start fast."""

from typing import Final

RGB_TO_XYZ: Final = (
    (0.4124564, 0.3575761, 0.1804375),
    (0.2126729, 0.7151522, 0.0721750),
    (0.0193339, 0.1191920, 0.9503041),
)
"""Linear sRGB, white point D65."""
