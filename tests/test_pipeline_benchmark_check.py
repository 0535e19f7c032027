"""Submissions that somebody already has: which of them a server would take, and why not."""

from __future__ import annotations

import base64
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.io import loadmat, savemat

from pipeline.benchmarks.check import check_dnd, check_sidd_csv, check_sidd_mat, check_submission
from pipeline.benchmarks.dnd import open_dnd
from pipeline.benchmarks.dnd_bundle import submit_dnd, write_bundle_file
from pipeline.benchmarks.kaggle import write_csv
from pipeline.benchmarks.sidd import open_benchmark, submit_sidd
from pipeline.benchmarks.verdict import Verdict
from pipeline.data.blocks import Blocks
from pipeline.errors import UserError
from tests.test_pipeline_benchmark import KEY, PLACE, plant_dnd
from tests.test_pipeline_blocks import save_hdf5, sidd_blocks

Run = Callable[..., tuple[int, dict[str, Any] | None, str]]
SHAPE = (3, 2, 24, 32, 3)
"""Stands for the published 40x32x256x256x3."""

CLEAN = sidd_blocks(SHAPE)[1]


def nothing() -> None:
    """No progress."""


@pytest.fixture
def noisy(tmp_path: Path) -> Blocks:
    savemat(str(tmp_path / f"{KEY}.mat"), {KEY: sidd_blocks(SHAPE)[0]})
    return open_benchmark(tmp_path)


def csv_of(path: Path, array: np.ndarray) -> Path:
    write_csv(path, array.reshape(-1, *array.shape[2:]))
    return path


def of_csv(path: Path, noisy: Blocks | None = None) -> Verdict:
    return check_sidd_csv(path, noisy, nothing, SHAPE)


def of_mat(path: Path, noisy: Blocks | None = None, **values: Any) -> Verdict:
    if values:
        savemat(str(path), values)
    return check_sidd_mat(path, noisy, nothing, SHAPE)


MAT: dict[str, Any] = {"DenoisedBlocksSrgb": CLEAN, "TimeMPSrgb": 1.5, "OptionalData": {"MethodName": "ours"}}


def test_what_unveil_writes_is_taken(tmp_path: Path, noisy: Blocks) -> None:
    submit_sidd(lambda image: image * np.float32(0.98), noisy, tmp_path / "out", old_server=True)
    for verdict in (
        of_csv(tmp_path / "out" / "SubmitSrgb.csv", noisy),
        of_mat(tmp_path / "out" / "SubmitSrgb.mat", noisy),
    ):
        assert (verdict.problems, verdict.warnings) == ((), ())
        assert "SIDD sRGB" in verdict.kind


def test_the_old_servers_file_names_method_and_authors(tmp_path: Path, noisy: Blocks) -> None:
    about = {"Authors": "A. and B.", "MethodName": "ours"}
    submit_sidd(lambda image: image, noisy, tmp_path / "out", old_server=True, about=about)
    told = loadmat(str(tmp_path / "out" / "SubmitSrgb.mat"))["OptionalData"][0, 0]
    assert told["Authors"].item() == "A. and B."
    assert told["MethodName"].item() == "ours"
    assert told["Venue"].size == 0


def test_the_csv_of_a_windows_program_is_taken_too(tmp_path: Path) -> None:
    path = csv_of(tmp_path / "SubmitSrgb.csv", CLEAN)
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    assert of_csv(path).problems == ()


@pytest.mark.parametrize(
    ("dtype", "values", "problem"),
    [
        (np.float32, 0.5, None),
        (np.float64, 0.5, None),
        (np.float32, 1.5, r"block 0: expected values in [0, 1], found 1.5 to 1.5"),
        (np.float32, np.nan, "block 0: expected finite values, found NaN or infinite ones"),
    ],
)
def test_raw_blocks_are_told_by_their_size(tmp_path: Path, dtype: type, values: float, problem: str | None) -> None:
    verdict = of_csv(csv_of(tmp_path / "SubmitRaw.csv", np.full(SHAPE[:4], values, dtype)))
    assert "SIDD raw" in verdict.kind
    assert "sidd-benchmark-raw-psnr" in verdict.upload
    assert verdict.problems[:1] == (() if problem is None else (problem,))
    # One line each for the first five, and a count.
    assert verdict.problems[5:] == (() if problem is None else ("and 1 more",))


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda data: data.replace(b"ID,BLOCK", b"\xef\xbb\xbfID,BLOCK"), "line 1: expected the header ID,BLOCK"),
        (lambda data: data.replace(b"\n1,", b"\n7,"), "line 3: expected ID 1, found '7'"),
        (lambda data: data[: data.rindex(b"\n5,") + 1], "line 6: expected 6 blocks, found 5"),
        (
            lambda data: data + data[data.rindex(b"\n5,") + 1 :].replace(b"5,", b"6,"),
            "line 8: expected 6 blocks, found more",
        ),
        (lambda data: data[:3000], "line 2: expected base64, found "),
        (lambda _: b"\x00\xff" * 500, "line 1: expected the header ID,BLOCK"),
        (lambda _: b"", "expected 6 blocks, found 0"),
    ],
)
def test_a_csv_that_kaggle_would_refuse_has_its_reason(
    tmp_path: Path, change: Callable[[bytes], bytes], problem: str
) -> None:
    path = csv_of(tmp_path / "SubmitSrgb.csv", CLEAN)
    path.write_bytes(change(path.read_bytes()))
    (found,) = of_csv(path).problems
    assert problem in found


def test_blocks_of_another_size_say_what_was_expected(tmp_path: Path) -> None:
    (problem,) = of_csv(csv_of(tmp_path / "x.csv", CLEAN[:, :, :12])).problems
    assert problem == f"line 2: expected {24 * 32 * 3} bytes, found {12 * 32 * 3}"


def test_what_is_taken_and_scored_badly_is_noted(tmp_path: Path, noisy: Blocks) -> None:
    unscaled = of_csv(csv_of(tmp_path / "a.csv", (CLEAN / 255).round().astype(np.uint8)))
    assert unscaled.problems == ()
    assert unscaled.warnings[0].startswith("no value is above 0.0039 of white: were they scaled")
    black = of_csv(csv_of(tmp_path / "d.csv", np.zeros(SHAPE, np.uint8)))
    assert black.warnings[0].startswith("no value is above 0.0000 of white")
    same = of_csv(csv_of(tmp_path / "b.csv", sidd_blocks(SHAPE)[0]), noisy)
    assert same.warnings == ("equal to the noisy data: nothing was denoised",)
    one_left = CLEAN.copy()
    one_left[1, 0] = sidd_blocks(SHAPE)[0][1, 0]
    assert of_csv(csv_of(tmp_path / "f.csv", one_left), noisy).warnings == ()
    backwards = of_csv(csv_of(tmp_path / "c.csv", CLEAN.reshape(-1, *SHAPE[2:])[::-1].reshape(SHAPE)), noisy)
    assert backwards.warnings[0].startswith("6 of 6 are brighter or darker than their noisy partners")
    assert of_csv(csv_of(tmp_path / "e.csv", CLEAN), noisy).warnings == ()


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"DenoisedBlocksSrgb": None}, "expected the variable DenoisedBlocksSrgb, found OptionalData, TimeMPSrgb"),
        ({"DenoisedBlocksSrgb": CLEAN[:2]}, "expected DenoisedBlocksSrgb as 3x2x24x32x3, found 2x2x24x32x3"),
        ({"DenoisedBlocksSrgb": CLEAN / 255}, "block 0: expected (24, 32, 3) uint8, found (24, 32, 3) float64"),
        ({"TimeMPSrgb": None}, "expected the variable TimeMPSrgb (seconds a megapixel), found none"),
        ({"TimeMPSrgb": -1.0}, "expected TimeMPSrgb as one positive number, found [-1.0]"),
        ({"OptionalData": None}, "expected OptionalData (MethodName, Authors, PaperTitle, Venue), found none"),
    ],
)
def test_a_file_for_the_old_server_that_lacks_something_has_its_reason(
    tmp_path: Path, change: dict[str, Any], problem: str
) -> None:
    values = {name: value for name, value in {**MAT, **change}.items() if value is not None}
    assert of_mat(tmp_path / "SubmitSrgb.mat", **values).problems[0] == problem


def test_cells_raw_blocks_and_new_matlab_files_are_read_too(tmp_path: Path, noisy: Blocks) -> None:
    cells = np.empty(SHAPE[:2], object)
    for place in np.ndindex(*SHAPE[:2]):
        cells[place] = CLEAN[place]
    assert of_mat(tmp_path / "cells.mat", noisy, **{**MAT, "DenoisedBlocksSrgb": cells}).problems == ()
    raw = {"DenoisedBlocksRaw": np.full(SHAPE[:4], 0.25), "TimeMPRaw": 2.0, "OptionalData": {"MethodName": "ours"}}
    verdict = of_mat(tmp_path / "SubmitRaw.mat", **raw)
    assert (verdict.problems, "SIDD raw" in verdict.kind) == ((), True)
    save_hdf5(tmp_path / "new.mat", DenoisedBlocksSrgb=CLEAN, TimeMPSrgb=np.ones((1, 1)), OptionalData=np.ones((1, 1)))
    assert of_mat(tmp_path / "new.mat", noisy).problems == ()
    (tmp_path / "SubmitSrgb.mat").write_bytes((tmp_path / "cells.mat").read_bytes()[:900])
    (problem,) = of_mat(tmp_path / "SubmitSrgb.mat").problems
    assert problem.startswith("expected a whole MATLAB file, found a damaged one")


@pytest.fixture(scope="module")
def dnd_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dnd")
    plant_dnd(folder)
    return folder


def test_a_bundle_is_checked_file_by_file(tmp_path: Path, dnd_folder: Path, unveil: Run) -> None:
    out = tmp_path / "out"
    submit_dnd(lambda image: image * np.float32(0.9), open_dnd(dnd_folder), out)
    code, found, _ = unveil("benchmark", "check", out, "--data", dnd_folder, "--json")
    assert code == 0
    assert found is not None
    (bundle,) = found["submissions"]
    assert (bundle["accepted"], bundle["kind"], bundle["warnings"]) == (True, "DND sRGB, bundle", [])
    assert found["made_by"]["benchmark"] == "dnd"
    # Without the data the boxes must have the published size.
    (verdict,) = check_submission(out)
    assert (
        verdict.problems[0] == f"0001.mat: expected box 1 as (512, 512, 3) float32, found ({PLACE}, {PLACE}, 3) float32"
    )
    assert verdict.problems[5] == "and 45 more"
    (out / "0050.mat").rename(out / "0051.mat")
    (out / "0002.mat").write_bytes(b"no MATLAB file")
    code, _, stderr = unveil("benchmark", "check", out, "--data", dnd_folder)
    assert code == 1
    assert f"{out}: DND sRGB, bundle: would be refused" in stderr
    assert "  expected 0001.mat to 0050.mat, found 1 missing, the first 0050.mat\n" in stderr
    assert "  expected 0001.mat to 0050.mat alone, found 0051.mat\n" in stderr
    assert "  0002.mat: expected a MATLAB file, found a damaged one\n" in stderr


def test_a_bundle_of_the_raw_track_is_known_and_none_is_half_raw(tmp_path: Path, dnd_folder: Path) -> None:
    dnd = open_dnd(dnd_folder)
    for index, boxes in enumerate(dnd.boxes):
        path = tmp_path / f"{index + 1:04d}.mat"
        write_bundle_file(path, [np.full((PLACE, PLACE), 0.5, np.float32)] * len(boxes))
        values = {name: value for name, value in loadmat(str(path)).items() if not name.startswith("__")}
        savemat(str(path), values | {"israw": True})
    verdict = check_dnd(tmp_path, dnd, nothing)
    assert (verdict.kind, verdict.problems) == ("DND raw, bundle", ())
    write_bundle_file(tmp_path / "0007.mat", [np.full((PLACE, PLACE), 0.5, np.float32)] * 20)
    (problem,) = check_dnd(tmp_path, dnd, nothing).problems
    assert problem.startswith("0007.mat: expected israw 1 and eval_version 1.0, found ")


def test_noisy_crops_in_the_bundle_are_noted(tmp_path: Path, dnd_folder: Path) -> None:
    submit_dnd(lambda image: image, open_dnd(dnd_folder), tmp_path / "same")
    (verdict,) = check_submission(tmp_path / "same", dnd_folder)
    assert (verdict.problems, verdict.warnings) == ((), ("equal to the noisy data: nothing was denoised",))


def test_a_folder_of_both_is_checked_by_one_call(tmp_path: Path, noisy: Blocks, unveil: Run) -> None:
    (tmp_path / "out").mkdir()
    csv_of(tmp_path / "out" / "SubmitSrgb.csv", CLEAN)
    code, _, stderr = unveil("benchmark", "check", tmp_path / "out", "--data", noisy.path)
    assert code == 1
    assert "line 2: expected 196608 bytes, found 2304" in stderr
    savemat(str(tmp_path / "out" / "SubmitSrgb.mat"), MAT)
    first, second = check_submission(tmp_path / "out", noisy.path)
    assert (first.kind, second.kind) == ("SIDD sRGB, CSV for Kaggle", "SIDD sRGB, MATLAB file for the old server")
    assert second.problems == ("expected DenoisedBlocksSrgb as 40x32x256x256x3, found 3x2x24x32x3",)


def test_what_is_no_submission_is_one_clear_line(tmp_path: Path, unveil: Run) -> None:
    with pytest.raises(UserError, match=r"expected a submission, found nothing there"):
        check_submission(tmp_path / "none")
    with pytest.raises(UserError, match=r"expected SubmitSrgb\.csv, .* or 0001\.mat to 0050\.mat, found none"):
        check_submission(tmp_path)
    code, _, stderr = unveil(
        "benchmark", "sidd", "--model", tmp_path, "--data", tmp_path, "--out", tmp_path, "--authors", "me"
    )
    assert code == 2
    assert "only the file of --old-server says them" in stderr


def test_the_bytes_of_a_block_are_those_of_the_published_demo_layout(tmp_path: Path) -> None:
    path = csv_of(tmp_path / "x.csv", CLEAN)
    line = path.read_text().splitlines()[1 + 3]
    assert base64.b64decode(line.partition(",")[2]) == CLEAN[1, 1].tobytes()
