"""SIDD's validation blocks in MATLAB files of both kinds, small ones of the published layout."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.io import savemat

from pipeline.data import blocks as blocks_module
from pipeline.data import mat
from pipeline.data.blocks import Blocks
from pipeline.errors import UserError
from pipeline.evaluation.datasets import find_pairs, holds_pairs
from pipeline.evaluation.evaluate import evaluate
from pipeline.evaluation.metrics import psnr_rgb_u8, ssim_gauss11_rgb
from pipeline.evaluation.summary import mean_of

NOISY, CLEAN = "ValidationNoisyBlocksSrgb", "ValidationGtBlocksSrgb"


def sidd_blocks(shape: tuple[int, ...] = (3, 2, 24, 32, 3)) -> tuple[np.ndarray, np.ndarray]:
    """Noisy and clean blocks, (images, blocks, H, W, 3) uint8, no two of one brightness."""
    generator = np.random.default_rng(5)
    level = np.linspace(50, 200, shape[0] * shape[1]).reshape(*shape[:2], 1, 1, 1)
    clean = level + 20 * np.sin(np.arange(shape[3]) / 4)[:, None]
    clean = np.broadcast_to(clean, shape)
    noisy = clean + generator.normal(0, 10, shape)
    return np.clip(np.rint(noisy), 0, 255).astype(np.uint8), np.rint(clean).astype(np.uint8)


def save_hdf5(path: Path, **arrays: np.ndarray) -> None:
    """Write as MATLAB 7.3 does: 512 bytes for MATLAB, then HDF5 with the axes the other way round."""
    h5py = pytest.importorskip("h5py")
    with h5py.File(path, "w", userblock_size=512) as file:
        for name, array in arrays.items():
            file.create_dataset(name, data=array.T, compression="gzip")
    with path.open("r+b") as raw:
        raw.write(b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM")


def save(path: Path, array: np.ndarray, kind: str) -> None:
    if kind == "7.3":
        save_hdf5(path, **{path.stem: array})
    else:
        savemat(str(path), {path.stem: array}, do_compression=kind == "7")


@pytest.mark.parametrize("kind", ["5", "7", "7.3"])
def test_an_evaluation_of_the_blocks_is_the_mean_over_blocks(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    noisy, clean = sidd_blocks()
    save(tmp_path / f"{NOISY}.mat", noisy, kind)
    save(tmp_path / f"{CLEAN}.mat", clean, kind)
    reads: list[Path] = []
    read = blocks_module.read_variable
    monkeypatch.setattr(blocks_module, "read_variable", lambda path, name: reads.append(path) or read(path, name))
    result: dict[str, Any] = evaluate(lambda image: image * 0.5 + 0.25, tmp_path, baselines=(), threads=3)
    half = np.rint(noisy / 2 + 255 / 4)
    each = [divmod(index, 2) for index in range(6)]
    psnr = [psnr_rgb_u8(half[at].astype(np.uint8), clean[at]) for at in each]
    ssim = [ssim_gauss11_rgb(noisy[at], clean[at]) for at in each]
    [one] = result["sets"]
    assert (one["layout"], one["n"]) == ("blocks", 6)
    assert [row["name"] for row in one["images"]] == ["00/00", "00/01", "01/00", "01/01", "02/00", "02/01"]
    assert mean_of(result, "ours", "psnr_rgb_u8") == pytest.approx(np.mean(psnr), abs=0.02)
    assert mean_of(result, "noisy", "ssim_gauss11_rgb") == pytest.approx(np.mean(ssim), abs=1e-9)
    assert mean_of(result, "noisy", "psnr_rgb_u8") == pytest.approx(
        np.mean([psnr_rgb_u8(noisy[at], clean[at]) for at in each]), abs=1e-9
    )
    json.dumps(result, allow_nan=False)
    # The pictures of a report come later, from the same arrays.
    find_pairs(tmp_path, "blocks").pairs[5].noisy.pixels()
    assert len(reads) == 2
    assert holds_pairs(tmp_path)


def test_a_file_that_changed_is_read_again(tmp_path: Path) -> None:
    noisy, clean = sidd_blocks()
    save(tmp_path / f"{NOISY}.mat", noisy, "5")
    save(tmp_path / f"{CLEAN}.mat", clean, "5")
    assert np.array_equal(find_pairs(tmp_path).pairs[0].noisy.pixels(), noisy[0, 0])
    save(tmp_path / f"{NOISY}.mat", clean, "5")
    assert np.array_equal(find_pairs(tmp_path).pairs[0].noisy.pixels(), clean[0, 0])


def test_raw_blocks_and_half_a_set_are_one_clear_line(tmp_path: Path) -> None:
    raw = np.random.default_rng(0).random((2, 2, 16, 16)).astype(np.float32)
    for name in ("ValidationNoisyBlocksRaw", "ValidationGtBlocksRaw"):
        save(tmp_path / f"{name}.mat", raw, "5")
    with pytest.raises(UserError, match="found raw blocks, for which there are no networks and metrics here"):
        find_pairs(tmp_path)
    with pytest.raises(UserError, match=r"expected sRGB blocks, found raw ones .*2x2x16x16 float32"):
        Blocks(tmp_path / "ValidationNoisyBlocksRaw.mat")
    noisy, _ = sidd_blocks()
    save(tmp_path / f"{NOISY}.mat", noisy, "5")
    with pytest.raises(UserError, match=f"expected {NOISY}.mat and {CLEAN}.mat, found not both"):
        find_pairs(tmp_path)
    save(tmp_path / f"{CLEAN}.mat", noisy[:2], "5")
    with pytest.raises(UserError, match=r"expected the shape of .*\(2, 2, 24, 32, 3\), found \(3, 2, 24, 32, 3\)"):
        find_pairs(tmp_path)


def test_other_arrays_and_damaged_files_are_one_clear_line(tmp_path: Path) -> None:
    path = tmp_path / f"{NOISY}.mat"
    for array in (np.zeros((2, 2, 8, 8, 3)), np.zeros((2, 2, 8, 8, 4), np.uint8), np.zeros((2, 8, 8, 3), np.uint8)):
        save(path, array, "5")
        with pytest.raises(UserError, match=r"expected .*Srgb as \(images, blocks, height, width, 3\) uint8, found"):
            Blocks(path)
    savemat(str(path), {"other": np.zeros(3)})
    with pytest.raises(UserError, match="expected the variable 'ValidationNoisyBlocksSrgb', found other"):
        Blocks(path)
    save(path, sidd_blocks()[0], "7")
    path.write_bytes(path.read_bytes()[:-3000])
    blocks = Blocks(path)
    with pytest.raises(UserError, match="expected a whole MATLAB file, found a damaged one"):
        blocks.block(0)
    path.write_bytes(b"hello")
    with pytest.raises(UserError, match="expected a whole MATLAB file, found a damaged one"):
        Blocks(path)
    with pytest.raises(UserError, match="expected a MATLAB file of SIDD blocks, found nothing there"):
        Blocks(tmp_path / "no.mat")


def test_a_renamed_copy_is_known_by_its_variable(tmp_path: Path) -> None:
    noisy, _ = sidd_blocks()
    savemat(str(tmp_path / "copy.mat"), {NOISY: noisy})
    assert np.array_equal(Blocks(tmp_path / "copy.mat").block(3), noisy[1, 1])


def test_without_h5py_the_line_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / f"{NOISY}.mat"
    # A file of version 7.3 as far as anyone can tell without the library.
    path.write_bytes(b"MATLAB 7.3 MAT-file".ljust(512) + b"\x89HDF\r\n\x1a\n" + bytes(100))
    monkeypatch.setitem(__import__("sys").modules, "h5py", None)
    with pytest.raises(UserError, match=r"need the package h5py; install it with pip install 'unveil-denoise\[mat\]'"):
        Blocks(path)


def test_a_damaged_hdf5_file_is_one_clear_line(tmp_path: Path) -> None:
    path = tmp_path / f"{NOISY}.mat"
    save(path, sidd_blocks()[0], "7.3")
    assert mat.variables(path) == {NOISY: mat.Variable((3, 2, 24, 32, 3), "uint8")}
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(UserError, match="expected a whole MATLAB file, found a damaged one"):
        Blocks(path).block(0)


@pytest.fixture(autouse=True)
def _nothing_kept() -> None:
    blocks_module._opened.cache_clear()
