"""Colour profiles that are not about sRGB are named, whatever a file says."""

import struct

import numpy as np
import pytest
from PIL import Image as Pillow
from PIL import ImageCms

from pipeline.data.folders import scan
from pipeline.data.icc import unlike_srgb
from pipeline.data.images import read_image
from pipeline.inference.files import denoise_files

ICC = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def matrix_profile(name, red, gamma=2.2, space=b"RGB "):
    """A small version 2 profile."""

    def fixed(*values):
        return b"XYZ \0\0\0\0" + b"".join(struct.pack(">i", round(value * 65536)) for value in values)

    curve = b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256)) + b"\0\0"
    description = b"desc\0\0\0\0" + struct.pack(">I", len(name) + 1) + name + b"\0"
    tags = {
        b"desc": description,
        b"rXYZ": fixed(*red),
        b"gXYZ": fixed(0.3851, 0.7169, 0.0971),
        b"bXYZ": fixed(0.1431, 0.0606, 0.7139),
        b"gTRC": curve,
        b"kTRC": curve,
    }
    table, body = struct.pack(">I", len(tags)), b""
    start = 132 + 12 * len(tags)
    for key, value in tags.items():
        table += struct.pack(">4sII", key, start + len(body), len(value))
        body += value
    header = bytes(16) + space + b"XYZ " + bytes(12) + b"acsp" + bytes(88)
    return header + table + body


SRGB_RED = (0.4361, 0.2225, 0.0139)


@pytest.mark.parametrize(
    ("profile", "name"),
    [
        (ICC, None),
        (matrix_profile(b"like sRGB", SRGB_RED), None),
        (matrix_profile(b"Adobe RGB (1998)", (0.6097, 0.3111, 0.0195)), "Adobe RGB (1998)"),
        (matrix_profile(b"linear sRGB", SRGB_RED, gamma=1.0), "linear sRGB"),
        (matrix_profile(b"grey", (0, 0, 0), space=b"GRAY"), None),
        (matrix_profile(b"linear grey", (0, 0, 0), gamma=1.0, space=b"GRAY"), "linear grey"),
        (matrix_profile(b"", SRGB_RED, gamma=1.0), "one without a name"),
        (matrix_profile(b"a\n\x1b[31mb", SRGB_RED, gamma=1.0), r"'a\n\x1b[31mb'"),
        (b"no profile", None),
        (matrix_profile(b"cut", SRGB_RED)[:150], "one without a name"),
        (bytes(36) + b"acsp" + b"\xff" * 400, "one without a name"),
    ],
)
def test_a_profile_unlike_srgb_is_named(profile, name):
    assert unlike_srgb(profile) == name


def test_damage_of_a_profile_is_no_error():
    generator = np.random.default_rng(0)
    for _ in range(500):
        damaged = bytearray(ICC if generator.random() < 0.5 else matrix_profile(b"Adobe", (0.6, 0.3, 0.02)))
        for _ in range(int(generator.integers(1, 8))):
            damaged[int(generator.integers(0, len(damaged)))] = int(generator.integers(0, 256))
        found = unlike_srgb(bytes(damaged[: int(generator.integers(1, len(damaged) + 1))]))
        assert found is None or found.isprintable()


def test_a_file_with_another_profile_says_so_once(tmp_path):
    profile = matrix_profile(b"Adobe RGB (1998)", (0.6097, 0.3111, 0.0195))
    Pillow.new("RGB", (8, 8)).save(tmp_path / "a.png", icc_profile=profile)
    summary = denoise_files(scan([tmp_path / "a.png"]), lambda image: image, tmp_path / "out")
    assert summary.files[0].note == (
        "the colour profile is Adobe RGB (1998), kept as it is; networks are trained on sRGB"
    )
    assert read_image(tmp_path / "out" / "a.png").metadata.icc == profile
