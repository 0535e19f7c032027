"""Whether a colour profile is sRGB or something like it: networks are trained on that and nothing else.

ICC.1:2022 (profile version 4.4) and version 2: the header, the tag table, the colorants and the tone curves.
"""

from __future__ import annotations

import struct
from typing import Final

from pipeline.data.paths import shown

_COLORANTS: Final = {
    b"rXYZ": (0.4361, 0.2225, 0.0139),
    b"gXYZ": (0.3851, 0.7169, 0.0971),
    b"bXYZ": (0.1431, 0.0606, 0.7139),
}
"""Of sRGB, adapted to D50 (IEC 61966-2-1, annex)."""

_NEAR: Final = 0.02
_MIDDLE: Final = (0.15, 0.32)
"""What half of white may be in linear light: sRGB has 0.214, powers of 1.8 and 2.4 have 0.287 and 0.189."""

_MAX_TAGS: Final = 200
_NAME_LENGTH: Final = 60


def unlike_srgb(profile: bytes) -> str | None:
    """Return the name of a profile whose colours or tones are not nearly those of sRGB; None if they are.

    A grey profile with a usual tone curve counts as sRGB, and so does one that cannot be read: it is no profile.

    Args:
        profile: an ICC profile, from a file that nobody vouches for.
    """
    if len(profile) < 132 or profile[36:40] != b"acsp":
        return None
    tags = _tags(profile)
    space = profile[16:20]
    curve = tags.get(b"kTRC" if space == b"GRAY" else b"gTRC")
    middle = None if curve is None else _middle(curve)
    usual = middle is None or _MIDDLE[0] < middle < _MIDDLE[1]
    if space == b"GRAY" and usual:
        return None
    if space == b"RGB " and usual and all(_near(tags.get(tag), wanted) for tag, wanted in _COLORANTS.items()):
        return None
    return _name(tags.get(b"desc")) or "one without a name"


def _tags(profile: bytes) -> dict[bytes, bytes]:
    (count,) = struct.unpack_from(">I", profile, 128)
    tags = {}
    for index in range(min(count, _MAX_TAGS)):
        entry = profile[132 + 12 * index : 144 + 12 * index]
        if len(entry) == 12:
            kind, offset, size = struct.unpack(">4sII", entry)
            tags[kind] = profile[offset : offset + size]
    return tags


def _near(tag: bytes | None, wanted: tuple[float, float, float]) -> bool:
    if tag is None or tag[:4] != b"XYZ " or len(tag) < 20:
        return False
    found = (value / 65536 for value in struct.unpack(">3i", tag[8:20]))
    return all(abs(one - other) < _NEAR for one, other in zip(found, wanted, strict=True))


def _middle(curve: bytes) -> float | None:
    """Return the linear value of half of white, or None where that cannot be told."""
    if curve[:4] == b"curv" and len(curve) >= 12:
        (count,) = struct.unpack(">I", curve[8:12])
        if count == 0:
            return 0.5
        at = 12 + 2 * (count // 2 if count > 1 else 0)
        if len(curve) < at + 2:
            return None
        (value,) = struct.unpack(">H", curve[at : at + 2])
        return float(0.5 ** (value / 256)) if count == 1 else value / 65535
    if curve[:4] == b"para" and len(curve) >= 16:
        kind, _, gamma = struct.unpack(">HHi", curve[8:16])
        # The other kinds have a straight piece near black, and are powers of about the same value in the middle.
        a, b = struct.unpack(">2i", curve[16:24]) if kind and len(curve) >= 24 else (65536, 0)
        base = (a / 65536) * 0.5 + b / 65536
        return float(base ** (gamma / 65536)) if 0 < base < 2 and 0 < gamma < 16 * 65536 else None
    return None


def _name(tag: bytes | None) -> str:
    if tag is None or len(tag) < 16:
        return ""
    text = b""
    if tag[:4] == b"desc":
        (length,) = struct.unpack(">I", tag[8:12])
        return _clean(tag[12 : 12 + min(length, 256)].split(b"\0")[0].decode("latin-1"))
    if tag[:4] == b"mluc" and len(tag) >= 28:
        length, offset = struct.unpack(">2I", tag[20:28])
        text = tag[offset : offset + min(length, 512)]
    return _clean(text.decode("utf-16-be", "replace"))


def _clean(text: str) -> str:
    text = text.strip("\0 ")[:_NAME_LENGTH]
    return shown(text) if text else ""
