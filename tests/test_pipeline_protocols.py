"""Every protocol gives the numbers of the paper's code, restated here from what that code does and in other words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import convolve, gaussian_filter
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from pipeline.errors import UserError
from pipeline.evaluation.lpips import VARIABLE
from pipeline.evaluation.metrics import METRICS, measure
from pipeline.evaluation.protocols import PROTOCOLS, pick_protocol

Floats = NDArray[np.float64]


@pytest.fixture(scope="module")
def output() -> NDArray[np.float32]:
    """What a network may return for `clean`: float32, beyond [0, 1] in places."""
    from skimage import data

    photo = data.coffee()[100:164, 200:272] / 255
    return (photo + np.random.default_rng(5).normal(0, 0.06, photo.shape) - 0.1).astype(np.float32)


@pytest.fixture(scope="module")
def clean() -> NDArray[np.uint8]:
    from skimage import data

    return np.ascontiguousarray(data.coffee()[100:164, 200:272])


@pytest.fixture(autouse=True)
def no_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)


def found(name: str, output: Any, clean: Any) -> list[float]:
    return list(measure(output, clean, pick_protocol(name).metrics).values())


def wang(x: Floats, y: Floats) -> float:
    """SSIM of one plane in [0, 255]: scipy's own Gaussian, cut at radius 5, as a product of luminance and structure."""

    def mean(plane: Floats) -> Floats:
        return np.asarray(gaussian_filter(plane, 1.5, radius=5))[5:-5, 5:-5]

    c1, c2 = 6.5025, 58.5225
    mx, my = mean(x), mean(y)
    vx, vy, cov = mean(x * x) - mx**2, mean(y * y) - my**2, mean(x * y) - mx * my
    return float(np.mean((2 * mx * my + c1) / (mx**2 + my**2 + c1) * (2 * cov + c2) / (vx + vy + c2)))


def matlab_ssim(x: Floats, y: Floats, peak: float) -> float:
    grid = np.exp(-sum(axis**2 for axis in np.mgrid[-5:6, -5:6, -5:6]) / 4.5)
    kernel = grid / grid.sum()

    def mean(volume: Floats) -> Floats:
        return np.asarray(convolve(volume, kernel, mode="nearest"))

    c1, c2 = (0.01 * peak) ** 2, (0.03 * peak) ** 2
    mx, my = mean(x), mean(y)
    above = (2 * mx * my + c1) * (2 * (mean(x * y) - mx * my) + c2)
    return float(np.mean(above / ((mx**2 + my**2 + c1) * (mean(x**2) - mx**2 + mean(y**2) - my**2 + c2))))


def test_unveil_rounds_and_takes_everything(output: Any, clean: Any) -> None:
    eight = np.round(np.clip(output.astype(np.float64), 0, 1) * 255)
    expected = [
        peak_signal_noise_ratio(clean, eight.astype(np.uint8)),
        np.mean([wang(eight[..., c], clean[..., c].astype(np.float64)) for c in range(3)]),
    ]
    assert found("unveil", output, clean) == pytest.approx(expected, abs=1e-6)
    assert PROTOCOLS["unveil"].text == "full images, 8-bit rounding, mean of per-image values"


def test_sidd_paper_is_matlab_on_floats_and_on_8_bits(output: Any, clean: Any) -> None:
    kept, truth = np.clip(output.astype(np.float64), 0, 1), clean / 255
    eight = np.round(kept * 255)
    expected = [
        10 * np.log10(1 / np.mean((kept - truth) ** 2)),
        matlab_ssim(kept, truth, 1),
        10 * np.log10(255**2 / np.mean((eight - clean) ** 2)),
        matlab_ssim(eight, clean.astype(np.float64), 255),
    ]
    assert found("sidd-paper", output, clean) == pytest.approx(expected, abs=1e-6)


def test_sidd_kaggle_scores_8_bit_blocks_with_both_windows(output: Any, clean: Any) -> None:
    eight = np.round(np.clip(output.astype(np.float64), 0, 1) * 255).astype(np.uint8)
    expected = [
        peak_signal_noise_ratio(clean, eight),
        np.mean([wang(*(side[..., c].astype(np.float64) for side in (eight, clean))) for c in range(3)]),
        structural_similarity(clean, eight, channel_axis=2),
    ]
    assert found("sidd-kaggle", output, clean) == pytest.approx(expected, abs=1e-6)


def test_apbsn_adds_a_half_cuts_and_asks_scikit_image(output: Any, clean: Any) -> None:
    eight = np.clip(np.floor(output.astype(np.float64) * 255 + 0.5), 0, 255)
    expected = [
        peak_signal_noise_ratio(clean.astype(np.float64), eight, data_range=255),
        structural_similarity(clean.astype(np.float64), eight, data_range=255, channel_axis=-1),
    ]
    assert found("apbsn", output, clean) == pytest.approx(expected, abs=1e-6)


def test_amsnet_rounds_and_averages_the_gaussian_ssim_of_three_channels(output: Any, clean: Any) -> None:
    eight = np.clip(output * np.float32(255), 0, 255).round().astype(np.uint8).astype(np.float64)
    error = np.square(eight - clean).reshape(-1).mean()
    truth = clean.astype(np.float64)
    expected = [
        20 * np.log10(255 / np.sqrt(error)),
        (wang(eight[..., 0], truth[..., 0]) + wang(eight[..., 1], truth[..., 1]) + wang(eight[..., 2], truth[..., 2]))
        / 3,
    ]
    assert found("amsnet", output, clean) == pytest.approx(expected, abs=1e-6)


def test_tbsn_asks_scikit_image_with_gaussian_weights(output: Any, clean: Any) -> None:
    kept, truth = np.floor(255 * np.clip(output.astype(np.float64), 0, 1) + 0.5) / 255, clean / 255
    expected = [
        peak_signal_noise_ratio(truth, kept, data_range=1),
        structural_similarity(
            truth, kept, data_range=1, channel_axis=-1, gaussian_weights=True, sigma=1.5, win_size=11
        ),
    ]
    assert found("tbsn", output, clean) == pytest.approx(expected, abs=1e-6)


def test_masked_leaves_a_border_and_adds_the_luma(output: Any, clean: Any) -> None:
    eight = np.round(np.clip(output.astype(np.float64), 0, 1) * 255)[1:-1, 1:-1]
    truth = clean[1:-1, 1:-1].astype(np.float64)

    def luma(image: Floats) -> Floats:
        red, green, blue = np.moveaxis(image, 2, 0) / 255
        return 16 + 65.481 * red + 128.553 * green + 24.966 * blue

    expected = [
        10 * np.log10(255**2 / np.mean((eight - truth) ** 2)),
        np.mean([wang(eight[..., c], truth[..., c]) for c in range(3)]),
        10 * np.log10(255**2 / np.mean((luma(eight) - luma(truth)) ** 2)),
        wang(luma(eight), luma(truth)),
    ]
    assert found("masked", output, clean) == pytest.approx(expected, abs=1e-6)


def test_dnd_does_not_round(output: Any, clean: Any) -> None:
    kept, truth = np.clip(output.astype(np.float64), 0, 1), clean / 255
    expected = [
        -10 * np.log10(np.mean((kept - truth) ** 2)),
        np.mean([wang(255 * kept[..., c], 255 * truth[..., c]) for c in range(3)]),
    ]
    assert found("dnd", output, clean) == pytest.approx(expected, abs=1e-6)
    assert abs(found("dnd", output, clean)[0] - found("unveil", output, clean)[0]) > 1e-5


def test_masked_takes_lpips_where_its_weights_are_and_says_so_where_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without = pick_protocol("masked")
    assert "lpips_alex_bgr" not in without.metrics
    assert without.text.endswith("Left out: lpips_alex_bgr, for UNVEIL_LPIPS names no weights")
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    with pytest.raises(UserError, match="expected one alexnet"):
        pick_protocol("masked")
    for name in ("alexnet.pth", "alex.pth"):
        (tmp_path / name).touch()
    there = pick_protocol("masked")
    assert there.metrics[-1] == "lpips_alex_bgr"
    assert there.metrics[:-1] == without.metrics
    assert "Left out" not in there.text


def test_protocols_are_listed_and_know_their_metrics() -> None:
    with pytest.raises(UserError, match=r"--protocol: expected one of unveil, sidd-paper, .*, found 'sidd'"):
        pick_protocol("sidd")
    for name, protocol in PROTOCOLS.items():
        assert protocol.name == name
        assert set(protocol.metrics + protocol.with_weights) <= METRICS.keys()
        assert METRICS[protocol.metrics[0]].unit == "dB"
