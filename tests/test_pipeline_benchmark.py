"""Submissions to SIDD and DND from small files of the published layout, read again as the servers do."""

from __future__ import annotations

import base64
import csv
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.io import loadmat, savemat

from models import InferenceSpec, UNetSpec, build, save
from pipeline.benchmarks.dnd import open_dnd, read_crops
from pipeline.benchmarks.dnd_bundle import check_bundle_file, submit_dnd, write_bundle_file
from pipeline.benchmarks.kaggle import check_csv, write_csv
from pipeline.benchmarks.sidd import open_benchmark, submit_sidd
from pipeline.errors import RunError, UserError
from tests.test_pipeline_blocks import save_hdf5, sidd_blocks

Run = Callable[..., tuple[int, dict[str, Any] | None, str]]
KEY = "BenchmarkNoisyBlocksSrgb"
PLACE = 7
"""Side of DND's boxes here; they are 512 in the real one, and the code takes them from info.mat."""


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weights")
    spec = UNetSpec(width=4, depth=1)
    save(folder, build(spec), spec=spec, inference=InferenceSpec(), card={})
    return folder


@pytest.fixture
def benchmark_mat(tmp_path: Path) -> Path:
    savemat(str(tmp_path / f"{KEY}.mat"), {KEY: sidd_blocks()[0]})
    return tmp_path / f"{KEY}.mat"


def a_little_brighter(image: np.ndarray) -> np.ndarray:
    return image + np.float32(0.7 / 255)


def test_the_csv_holds_every_block_rounded_in_order(tmp_path: Path, benchmark_mat: Path) -> None:
    seen = []
    blocks = open_benchmark(benchmark_mat.parent)
    out = tmp_path / "out"
    result = submit_sidd(a_little_brighter, blocks, out, on_progress=lambda *done: seen.append(done))
    noisy = sidd_blocks()[0]
    with (out / "SubmitSrgb.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["ID"] for row in rows] == ["0", "1", "2", "3", "4", "5"]
    for index, row in enumerate(rows):
        block = np.frombuffer(base64.b64decode(row["BLOCK"]), np.uint8).reshape(24, 32, 3)
        # 0.7 of a grey level up is one up when rounded, and none when cut off.
        assert np.array_equal(block, np.minimum(noisy[divmod(index, 2)].astype(int) + 1, 255))
    assert (out / "SubmitSrgb.csv").read_bytes().startswith(b"ID,BLOCK\n0,")
    assert (result["blocks"], result["dtype"], result["checked"], result["complete"]) == (6, "uint8", True, False)
    assert seen == [(index, 6) for index in range(1, 7)]
    assert not (out / "SubmitSrgb.mat").exists()


def test_the_file_of_the_old_server_holds_the_same_blocks(tmp_path: Path, benchmark_mat: Path) -> None:
    submit_sidd(a_little_brighter, open_benchmark(benchmark_mat), tmp_path / "out", old_server=True)
    values = loadmat(str(tmp_path / "out" / "SubmitSrgb.mat"))
    expected = np.minimum(sidd_blocks()[0].astype(int) + 1, 255)
    assert values["DenoisedBlocksSrgb"].dtype == np.uint8
    assert np.array_equal(values["DenoisedBlocksSrgb"], expected)
    assert values["TimeMPSrgb"].item() > 0
    assert set(values["OptionalData"].dtype.names) == {"MethodName", "Authors", "PaperTitle", "Venue"}


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (lambda text: text.replace("ID,BLOCK", "id,block"), "line 1: expected the header ID,BLOCK"),
        (lambda text: text.replace("\n1,", "\n2,"), "line 3: expected ID 1, found '2'"),
        (lambda text: "".join(text.splitlines(keepends=True)[:-1]), "expected 3 blocks, found 2"),
        (lambda text: text.replace("=", "*"), "expected base64"),
        (lambda text: text + "3,AAAA\n", "line 5: expected 10 bytes, found 3"),
        (lambda _: "", "expected 3 blocks, found 0"),
    ],
)
def test_the_check_of_the_csv_finds_what_the_server_would(
    tmp_path: Path, change: Callable[[str], str], line: str
) -> None:
    path = tmp_path / "x.csv"
    written = write_csv(path, (np.full((2, 5), value, np.uint8) for value in range(3)))
    assert check_csv(path, 3, 10) == written
    path.write_text(change(path.read_text()))
    with pytest.raises(RunError) as caught:
        check_csv(path, 3, 10)
    assert line in str(caught.value)


def test_the_sidd_command_keeps_what_is_there_and_says_what_it_wrote(
    unveil: Run, tmp_path: Path, benchmark_mat: Path, weights: Path
) -> None:
    call = ("benchmark", "sidd", "--model", weights, "--data", benchmark_mat, "--out", tmp_path / "out")
    code, result, _ = unveil(*call, "--json")
    assert code == 0
    assert result is not None
    assert (result["blocks"], result["checked"], result["made_by"]["mode"]["passes"]) == (6, True, 1)
    assert check_csv(tmp_path / "out" / "SubmitSrgb.csv", 6, 24 * 32 * 3) == result["sha256"]
    code, _, stderr = unveil(*call)
    assert code == 2
    assert "SubmitSrgb.csv: exists; pass --overwrite to replace it, or use another --out" in stderr
    code, _, stderr = unveil(*call, "--overwrite")
    assert code == 0
    assert "6 blocks, read again and equal" in stderr
    assert "Kaggle will not take it" in stderr


# --- DND


def plant_dnd(folder: Path, *, images: int = 50) -> np.ndarray:
    """A DND of small photographs, as published: HDF5, axes reversed, boxes behind references; returns the photos."""
    h5py = pytest.importorskip("h5py")
    generator = np.random.default_rng(2)
    photos = generator.random((images, 30, 44, 3)).astype(np.float32)
    (folder / "images_srgb").mkdir(parents=True)
    for index, photo in enumerate(photos):
        save_hdf5(folder / "images_srgb" / f"{index + 1:04d}.mat", InoisySRGB=photo)
    with h5py.File(folder / "info.mat", "w", userblock_size=512) as file:
        references = file.create_dataset("info/boundingboxes", (1, images), dtype=h5py.ref_dtype)
        for index in range(images):
            top, left = generator.integers(1, 30 - PLACE, 20), generator.integers(1, 44 - PLACE, 20)
            # Rows and columns from 1, the last ones included.
            boxes = np.stack([top, left, top + PLACE - 1, left + PLACE - 1], axis=1).astype(np.float64)
            references[0, index] = file.create_dataset(f"#refs#/{index}", data=boxes.T).ref
    return photos


@pytest.fixture(scope="module")
def dnd_folder(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, np.ndarray]:
    folder = tmp_path_factory.mktemp("dnd")
    return folder, plant_dnd(folder)


def test_boxes_are_cut_where_matlab_would_cut_them(dnd_folder: tuple[Path, np.ndarray]) -> None:
    import h5py

    folder, photos = dnd_folder
    dnd = open_dnd(folder)
    with h5py.File(folder / "info.mat") as file:
        told = file[file["info"]["boundingboxes"][0][6]][()].T
    crops = read_crops(dnd.images[6].path, dnd.boxes[6])
    assert len(crops) == 20
    for crop, (top, left, bottom, right) in zip(crops, told.astype(int), strict=True):
        assert crop.shape == (PLACE, PLACE, 3)
        assert np.array_equal(crop, photos[6][top - 1 : bottom, left - 1 : right])


def test_a_bundle_is_fifty_files_of_twenty_crops_and_goes_on_where_it_stopped(
    tmp_path: Path, dnd_folder: tuple[Path, np.ndarray]
) -> None:
    folder, _ = dnd_folder
    dnd, out = open_dnd(folder), tmp_path / "out"
    calls = []

    def halve(image: np.ndarray) -> np.ndarray:
        calls.append(image.shape)
        if len(calls) == 47:
            raise KeyboardInterrupt
        return image * 2 - np.float32(0.5)

    with pytest.raises(KeyboardInterrupt):
        submit_dnd(halve, dnd, out)
    assert sorted(path.name for path in out.glob("*.mat")) == ["0001.mat", "0002.mat"]
    assert not list(out.glob("*.tmp"))
    seen: list[tuple[int, int]] = []
    result = submit_dnd(halve, dnd, out, on_progress=lambda *done: seen.append(done)).to_dict()
    assert (result["ok"], result["skipped"], result["failed"], result["checked"]) == (48, 2, 0, 50)
    assert len(calls) == 47 + 48 * 20
    assert (seen[-1], seen == sorted(seen), result["complete"]) == ((1000, 1000), True, True)
    values = loadmat(str(out / "0007.mat"))
    assert values["Idenoised"].shape == (1, 20)
    assert values["Idenoised"].dtype == object
    assert values["israw"].item() == 0
    assert values["eval_version"].tolist() == ["1.0"]
    for crop, noisy in zip(values["Idenoised"][0], read_crops(dnd.images[6].path, dnd.boxes[6]), strict=True):
        assert crop.dtype == np.float32
        # Clipped to [0, 1] and not rounded.
        assert np.array_equal(crop, np.clip(noisy * 2 - np.float32(0.5), 0, 1))


@pytest.mark.parametrize(
    ("crops", "line"),
    [
        ([np.zeros((7, 7, 3), np.float32)] * 19, r"expected Idenoised as a 1x20 cell array, found \(1, 19\)"),
        ([np.zeros((7, 6, 3), np.float32)] * 20, r"box 1 as \(7, 7, 3\) float32, found \(7, 6, 3\)"),
        ([np.zeros((7, 7, 3))] * 20, "box 1 as .* float32, found .* float64"),
        ([np.full((7, 7, 3), 1.5, np.float32)] * 20, r"box 1 within \[0, 1\], found 1.5"),
    ],
)
def test_the_check_of_the_bundle_finds_what_the_server_would(
    tmp_path: Path, crops: list[np.ndarray], line: str
) -> None:
    write_bundle_file(tmp_path / "0001.mat", crops)
    with pytest.raises(RunError, match=line):
        check_bundle_file(tmp_path / "0001.mat", np.tile([2, 3, 9, 10], (20, 1)))


def test_a_bundle_marked_raw_or_damaged_is_refused(tmp_path: Path) -> None:
    boxes, path = np.tile([2, 3, 9, 10], (20, 1)), tmp_path / "0001.mat"
    write_bundle_file(path, [np.zeros((7, 7, 3), np.float32)] * 20)
    check_bundle_file(path, boxes)
    values = {key: value for key, value in loadmat(str(path)).items() if not key.startswith("__")}
    savemat(str(path), values | {"israw": True})
    with pytest.raises(RunError, match=r"expected israw 0 and eval_version 1\.0"):
        check_bundle_file(path, boxes)
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(RunError, match="expected a MATLAB file, found a damaged one"):
        check_bundle_file(path, boxes)


def test_the_dnd_command_lists_a_damaged_image_and_goes_on(
    unveil: Run, tmp_path: Path, dnd_folder: tuple[Path, np.ndarray], weights: Path
) -> None:
    folder = tmp_path / "dnd"
    shutil.copytree(dnd_folder[0], folder)
    image = folder / "images_srgb" / "0033.mat"
    whole = image.read_bytes()
    image.write_bytes(whole[:600])
    call = ("benchmark", "dnd", "--model", weights, "--data", folder, "--out", tmp_path / "out")
    code, result, _ = unveil(*call, "--json")
    assert code == 3
    assert result is not None
    assert (result["ok"], result["failed"], result["complete"]) == (49, 1, False)
    (failed,) = [file for file in result["files"] if file["status"] == "failed"]
    assert "0033.mat: expected a whole MATLAB file, found a damaged one" in failed["error"]
    image.write_bytes(whole)
    code, _, stderr = unveil(*call)
    assert code == 0
    assert f"1 written to {tmp_path / 'out'}, 49 there already and left alone" in stderr
    assert "50 read again and as DND wants them" in stderr
    # Half of one model and half of another is no submission.
    (tmp_path / "out" / "0001.mat").unlink()
    other = tmp_path / "other"
    spec = UNetSpec(width=6, depth=1)
    save(other, build(spec), spec=spec, inference=InferenceSpec(), card={})
    code, _, stderr = unveil(*call[:3], other, *call[4:])
    assert code == 2
    assert "expected a submission of the same weights_sha256, found another; use another --out" in stderr
    assert not (tmp_path / "out" / "0001.mat").exists()


def test_what_is_no_dnd_is_one_clear_line(tmp_path: Path, dnd_folder: tuple[Path, np.ndarray]) -> None:
    with pytest.raises(UserError, match=r"info\.mat: expected the info\.mat of DND .* found nothing there"):
        open_dnd(tmp_path)
    shutil.copy(dnd_folder[0] / "info.mat", tmp_path / "info.mat")
    (tmp_path / "images_raw").mkdir()
    with pytest.raises(UserError, match=r"found images_raw/ alone \(the raw track is not built\)"):
        open_dnd(tmp_path)
    (tmp_path / "images_srgb").mkdir()
    with pytest.raises(UserError, match=r"expected 0001\.mat to 0050\.mat, found 50 missing, the first 0001\.mat"):
        open_dnd(tmp_path)
    shutil.copytree(dnd_folder[0] / "images_srgb", tmp_path / "images_srgb", dirs_exist_ok=True)
    (tmp_path / "info.mat").unlink()
    save_hdf5(tmp_path / "info.mat", other=np.zeros((2, 2)))
    with pytest.raises(UserError, match="expected info/boundingboxes as DND has it, found another structure"):
        open_dnd(tmp_path)
    savemat(str(tmp_path / "info.mat"), {"info": 1})
    with pytest.raises(UserError, match=r"expected a MATLAB 7\.3 \(HDF5\) file"):
        open_dnd(tmp_path)


def test_a_box_that_leaves_the_photograph_is_refused(dnd_folder: tuple[Path, np.ndarray]) -> None:
    with pytest.raises(UserError, match="expected boxes inside 44x30, found rows 25 to 31, columns 1 to 7"):
        read_crops(open_dnd(dnd_folder[0]).images[0].path, np.array([[24, 0, 31, 7]]))
