"""``unveil develop``: a mirrored tree of pictures or DNGs; no input is touched, a bad file stops nobody."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipeline.data.images import read_image
from raw.dng import write_dng
from raw.files import read_raw


def mosaic(seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).integers(64, 1000, (32, 48), dtype=np.uint16)


@pytest.fixture
def raws(tmp_path: Path) -> Path:
    folder = tmp_path / "raws"
    (folder / "sub").mkdir(parents=True)
    for name, seed in (("a.dng", 1), ("sub/b.dng", 2)):
        write_dng(
            folder / name,
            mosaic(seed),
            pattern="GBRG",
            black_levels=(64, 65, 66, 67),
            white_level=1023,
            white_balance=(2.0, 1.0, 1.5),
            noise=[(1e-3, 1e-6)],
            make="Made",
            model="Camera",
            flip=6,
        )
    return folder


def test_dngs_hold_the_same_numbers_and_the_same_facts(unveil, raws: Path, tmp_path: Path) -> None:
    code, result, _ = unveil("develop", raws, "--out", tmp_path / "out", "--format", "dng", "--json")
    assert (code, result["ok"], result["failed"]) == (0, 2, 0)
    for name in ("a.dng", "sub/b.dng"):
        before, after = read_raw(raws / name), read_raw(tmp_path / "out" / name)
        np.testing.assert_array_equal(after.mosaic, before.mosaic)
        for fact in ("pattern", "black_levels", "white_level", "flip", "make", "model", "noise_profile"):
            assert getattr(after, fact) == getattr(before, fact), fact
        assert after.white_balance == pytest.approx(before.white_balance, rel=1e-6)


def test_pictures_are_what_denoising_reads(unveil, raws: Path, tmp_path: Path) -> None:
    assert unveil("develop", raws, "--out", tmp_path / "out", "--suffix", "_dev")[0] == 0
    written = read_image(tmp_path / "out" / "sub" / "b_dev.tif")
    assert written.pixels.dtype == np.uint16
    np.testing.assert_array_equal(written.pixels, read_image(raws / "sub" / "b.dng").pixels)


def test_our_own_converter_gives_nearly_the_picture_of_libraw(unveil, raws: Path, tmp_path: Path) -> None:
    flat = np.full((64, 96), 64, dtype=np.uint16)
    for (row, column), gain in {(0, 0): 1.0, (0, 1): 1.5, (1, 0): 2.0, (1, 1): 1.0}.items():  # GBRG
        flat[row::2, column::2] = round(64 + 0.3 * 959 / gain)
    write_dng(
        raws / "a.dng", flat, pattern="GBRG", black_levels=(64,) * 4, white_level=1023, white_balance=(2.0, 1.0, 1.5)
    )
    for converter in ("libraw", "unveil"):
        arguments = ("--out", tmp_path / converter, "--converter", converter)
        assert unveil("develop", raws / "a.dng", *arguments)[0] == 0
    theirs, ours = (read_image(tmp_path / name / "a.tif").pixels.astype(float) for name in ("libraw", "unveil"))
    assert ours.shape == theirs.shape
    # One raw step is 1/959 of white, times the gain of 2 and the curve's slope of about 1.
    np.testing.assert_allclose(ours[8:-8, 8:-8], theirs[8:-8, 8:-8], atol=65535 * 2 / 959)


def test_outputs_that_exist_are_left_alone_unless_asked(unveil, raws: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert unveil("develop", raws, "--out", out, "--format", "png")[0] == 0
    (out / "a.png").write_bytes(b"mine")
    _, result, _ = unveil("develop", raws, "--out", out, "--format", "png", "--json")
    assert (result["ok"], result["skipped"]) == (0, 2)
    assert (out / "a.png").read_bytes() == b"mine"
    _, result, _ = unveil("develop", raws, "--out", out, "--format", "png", "--overwrite", "--json")
    assert result["ok"] == 2
    assert (out / "a.png").read_bytes() != b"mine"


def test_no_input_is_written_over(unveil, raws: Path) -> None:
    before = (raws / "a.dng").read_bytes()
    code, _, error = unveil("develop", raws / "a.dng", "--out", raws, "--format", "dng", "--overwrite")
    assert code == 2
    assert "expected an output that is no input" in error
    assert (raws / "a.dng").read_bytes() == before


def test_a_broken_raw_is_named_and_the_rest_is_done(unveil, raws: Path, tmp_path: Path) -> None:
    whole = (raws / "a.dng").read_bytes()
    (raws / "cut.dng").write_bytes(whole[: len(whole) // 2])
    code, result, _ = unveil("develop", raws, "--out", tmp_path / "out", "--format", "dng", "--json")
    assert (code, result["ok"], result["failed"]) == (3, 2, 1)
    (failed,) = (file for file in result["files"] if file["status"] == "failed")
    assert failed["error"].startswith(f"{raws / 'cut.dng'}: ")
    assert failed["error"].count("cut.dng") == 1
    assert not (tmp_path / "out" / "cut.dng").exists()
    assert not list((tmp_path / "out").rglob("*.tmp"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--format", "gif"), "--format: expected one of tiff, png, jpeg, dng, found 'gif'"),
        (("--converter", "dcraw"), "--converter: expected one of libraw, unveil, found 'dcraw'"),
        (("--suffix", "a/b"), "--suffix: expected text without a path separator"),
    ],
)
def test_a_wrong_setting_is_one_line(unveil, raws: Path, tmp_path: Path, arguments, message) -> None:
    code, _, error = unveil("develop", raws, "--out", tmp_path / "out", *arguments)
    assert code == 2
    assert message in error


def test_pictures_are_no_raw_files(unveil, photo_folder: Path, tmp_path: Path) -> None:
    code, _, error = unveil("develop", photo_folder, "--out", tmp_path / "out")
    assert code == 2
    assert "expected camera raw files" in error
