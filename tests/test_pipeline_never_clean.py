"""The proof: a training from noisy photos opens no clean file, not even its header, in any of its processes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.data.images import Image, write_image
from raw.dng import write_dng
from tests.open_watch import KernelWatch, hook_environment

pytestmark = pytest.mark.timeout(900)  # whole trainings, on machines that others use too
ROOT = Path(__file__).resolve().parent.parent
NOISY = [
    "SIDD/Data/0001_001_S6_00100_00060_3200_L/0001_NOISY_SRGB_010.PNG",
    "SIDD/Data/0001_001_S6_00100_00060_3200_L/0001_NOISY_SRGB_011.PNG",
    "SIDD_Small/Data/0002_001_S6_00100_00020_3200_N/NOISY_SRGB_010.PNG",
    "PolyU/CroppedImages/Canon5D2_5_160_3200_plug_12_real.JPG",
    "cc60/noisy/a.png",
    "cc60/noisy/b.tif",
    "cc60/noisy/c.dng",
    "NIND/droid/NIND_droid_ISO800.jpg",
    "NIND/droid/NIND_droid_ISOH1.png",
    "holiday/beach_mean.jpg",
]
CLEAN = [
    "SIDD/Data/0001_001_S6_00100_00060_3200_L/0001_GT_SRGB_010.PNG",
    "SIDD/Data/0001_001_S6_00100_00060_3200_L/0001_GT_SRGB_011.PNG",
    "SIDD_Small/Data/0002_001_S6_00100_00020_3200_N/GT_SRGB_010.PNG",
    "PolyU/CroppedImages/Canon5D2_5_160_3200_plug_12_mean.JPG",
    "cc60/clean/a.png",
    "cc60/clean/b.tif",
    "cc60/clean/c.dng",
    "cc60/contact_sheet.png",
    "NIND/droid/NIND_droid_ISO200.jpg",
    "NIND/droid/NIND_droid_ISO200-1.png",
]
TINY = [
    "data.crop=32",
    "network.width=8",
    "network.depth=1",
    "training.batch=4",
    "training.steps=3",
    "training.minutes=0",
]


def plant(tree: Path, photo: np.ndarray) -> None:
    for index, name in enumerate([*NOISY, *CLEAN, "holiday/hill.jpg"]):
        path = tree / name
        path.parent.mkdir(parents=True, exist_ok=True)
        crop = photo[8 * index : 8 * index + 64, :64]
        if path.suffix == ".dng":
            write_dng(path, np.repeat(np.repeat(crop[..., 1], 2, 0), 2, 1).astype(np.uint16) * 200)
        else:
            write_image(path, Image(pixels=np.ascontiguousarray(crop)))


def opened_by_training(
    photo: np.ndarray, place: Path, *more: str, workers: int = 0
) -> tuple[set[str], set[str], dict[str, Any]]:
    """Train for real in a process of its own; return what Python opened, what anything opened, and the manifest."""
    tree = place / "tree"
    plant(tree, photo)
    environment, log = hook_environment(place / "hook", tree)
    environment |= {"OMP_NUM_THREADS": "1", "UNVEIL_HOME": str(place / "home")}
    command = [sys.executable, "-m", "pipeline", "train", "--preset", "quick", "--data", str(tree)]
    command += ["--out", str(place / "run"), *TINY, f"cluster.workers={workers}", *more]
    watch = KernelWatch(tree)
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    by_anything = {path.relative_to(tree).as_posix() for path in watch.opened()}
    assert done.returncode == 0, done.stderr
    by_python = {Path(line).relative_to(tree).as_posix() for line in log.read_text().splitlines()}
    return by_python, by_anything, json.loads((place / "run" / "manifest.json").read_text())


def check(by_python: set[str], by_anything: set[str], manifest: dict[str, Any]) -> None:
    assert sorted(manifest["files"]) == sorted([*NOISY, "holiday/hill.jpg"])
    assert manifest["clean_never_opened"] == len(CLEAN)
    # Each noisy file was opened and seen to be, so a clean one would have been seen too.
    assert by_anything == {*NOISY, "holiday/hill.jpg"}
    assert by_python == by_anything


def test_no_clean_file_is_opened_in_training(photo: np.ndarray, tmp_path: Path) -> None:
    check(*opened_by_training(photo, tmp_path))


def test_the_watch_sees_clean_files_where_they_are_taken_for_noisy_ones(photo: np.ndarray, tmp_path: Path) -> None:
    by_python, by_anything, manifest = opened_by_training(photo, tmp_path, "data.layout=plain", "training.steps=1")
    assert set(CLEAN) <= by_python
    assert set(CLEAN) <= by_anything
    assert manifest["clean_never_opened"] == 0


@pytest.mark.slow
def test_no_clean_file_is_opened_in_training_on_ray(photo: np.ndarray, tmp_path: Path) -> None:
    check(*opened_by_training(photo, tmp_path, workers=1))
