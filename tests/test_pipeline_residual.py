"""What was taken off a picture: noise levels before and after, and structure in the residual."""

from __future__ import annotations

import json
import time

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from pipeline.data.folders import scan
from pipeline.data.images import Image, write_image
from pipeline.inference.files import denoise_files
from pipeline.inference.manifest import MANIFEST_NAME
from pipeline.inference.residual import doubtful, residual_of
from pipeline.inference.results import FileResult


@pytest.fixture
def scene() -> np.ndarray:
    """(128, 128, 3): flat areas above, fine texture below, in the middle of the range."""
    generator = np.random.default_rng(0)
    texture = gaussian_filter(generator.standard_normal((128, 128, 3)), (1, 1, 0))
    scene = np.full((128, 128, 3), 0.5)
    scene[64:] += 0.1 * texture[64:] / texture.std()
    return scene.astype(np.float32)


def noise(sigma: float) -> np.ndarray:
    return (sigma / 255 * np.random.default_rng(1).standard_normal((128, 128, 3))).astype(np.float32)


def test_the_truth_leaves_nothing_but_noise_in_the_residual(scene):
    found = residual_of(scene + noise(10), scene)
    assert found is not None
    assert found["noise_before_255"] == pytest.approx(10, rel=0.05)
    assert found["noise_after_255"] < 0.1
    assert found["removed_255"] == pytest.approx(10, rel=0.05)
    assert abs(found["structure"]) < 0.02


def test_a_blur_leaves_structure_and_the_identity_leaves_noise(scene):
    noisy = scene + noise(3)
    blurred = residual_of(noisy, gaussian_filter(noisy, (1.0, 1.0, 0)))
    assert blurred is not None
    assert blurred["structure"] > 0.3
    same = residual_of(noisy, noisy)
    assert same is not None
    assert same["noise_after_255"] == same["noise_before_255"] == pytest.approx(3, rel=0.05)
    assert (same["removed_255"], same["structure"]) == (0, 0)


def test_alpha_does_not_count_and_small_pictures_have_no_measure(scene):
    noisy = scene + noise(10)
    alpha = np.random.default_rng(2).random((128, 128, 1), dtype=np.float32)
    with_alpha = [np.concatenate([image, alpha], axis=2) for image in (noisy, scene)]
    assert residual_of(*with_alpha) == residual_of(noisy, scene)
    assert residual_of(noisy[:31, :31], scene[:31, :31]) is None
    assert residual_of(noisy, scene[:64]) is None


def test_it_costs_little_on_a_large_picture():
    large = np.random.default_rng(0).random((2000, 3000, 3), dtype=np.float32)
    residual_of(large, large)
    start = time.process_time()
    residual_of(large, large)
    assert time.process_time() - start < 0.3


def test_doubtful_files_are_named_worst_first_and_all_are_in_the_manifest(tmp_path, scene):
    def file(name: str, before: float, after: float, structure: float) -> FileResult:
        residual = {
            "noise_before_255": before,
            "noise_after_255": after,
            "removed_255": before - after,
            "structure": structure,
        }
        return FileResult(source=f"in/{name}", output="o", status="ok", residual=residual)

    good = file("good", 10, 1, 0.05)
    clean = file("clean", 1, 0.9, 0.0)
    assert doubtful([good, clean, FileResult(source="x", output="o", status="failed")]) is None
    told = doubtful([good, file("left", 10, 8, 0.0), file("blurred", 10, 0.5, 0.6)])
    assert told == (
        "look at 2 of 3 files, worst: blurred (structure in the residual, correlation 0.60); "
        "left (noise 8.0 of 10.0/255 left)"
    )
    (tmp_path / "in").mkdir()
    pixels = np.rint(255 * np.clip(scene + noise(10), 0, 1)).astype(np.uint8)
    write_image(tmp_path / "in" / "a.png", Image(pixels=pixels))
    summary = denoise_files(scan([tmp_path / "in"]), lambda image: image, tmp_path / "out")
    assert "look at 1 of 1 files, worst: a.png (noise 9.9 of 9.9/255 left)" in summary.told("out")[-1]
    entry = json.loads((tmp_path / "out" / MANIFEST_NAME).read_text().splitlines()[1])
    assert entry["residual"] == summary.files[0].residual
    assert summary.to_dict()["files"][0]["residual"] == summary.files[0].residual
