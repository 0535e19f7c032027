"""IPTC fields between JPEG and TIFF: in both they lie in Photoshop's image resources, in TIFF also in a tag."""

from __future__ import annotations

import struct

_SIGNATURE = b"8BIM"
_IPTC = 0x0404


def iptc_of(resources: bytes) -> bytes | None:
    """Return the IPTC records among Photoshop's image resources, or None."""
    at = 0
    while resources[at : at + 4] == _SIGNATURE and at + 12 <= len(resources):
        (number,) = struct.unpack_from(">H", resources, at + 4)
        # A name of one length byte and text, padded to an even number of bytes.
        at += 6 + (resources[at + 6] + 2) // 2 * 2
        if at + 4 > len(resources):
            return None
        (length,) = struct.unpack_from(">I", resources, at)
        if number == _IPTC:
            return resources[at + 4 : at + 4 + length]
        at += 4 + (length + 1) // 2 * 2
    return None


def resource_of(iptc: bytes) -> bytes:
    """Return an image resource that holds IPTC records."""
    return _SIGNATURE + struct.pack(">HHI", _IPTC, 0, len(iptc)) + iptc + b"\0" * (len(iptc) % 2)
