"""LPIPS: our AlexNet against a restatement in numpy, weights that are asked for in one line, and read safely."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from numpy.typing import NDArray

from pipeline.errors import UserError
from pipeline.evaluation import lpips
from pipeline.evaluation.metrics import METRICS, measure, pick_metrics
from pipeline.weights_import import read_weights
from raw.child_process import ChildProcess

SHAPES = {0: (64, 3, 11, 11), 3: (192, 64, 5, 5), 6: (384, 192, 3, 3), 8: (256, 384, 3, 3), 10: (256, 256, 3, 3)}

Weights = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def weights() -> tuple[Weights, Weights]:
    """AlexNet and linear layers, random, of a size that keeps the features alive through five layers."""
    generator = torch.Generator().manual_seed(1)
    trunk = {}
    for index, shape in SHAPES.items():
        fan = shape[1] * shape[2] * shape[3]
        trunk[f"features.{index}.weight"] = torch.randn(shape, generator=generator) * (2 / fan) ** 0.5
        trunk[f"features.{index}.bias"] = torch.randn(shape[0], generator=generator) * 0.1
    linear = {
        f"lin{number}.model.1.weight": torch.rand((1, shape[0], 1, 1), generator=generator)
        for number, shape in enumerate(SHAPES.values())
    }
    return trunk, linear


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, weights: tuple[Weights, Weights]) -> Path:
    place = tmp_path_factory.mktemp("lpips")
    classifier = {"classifier.6.bias": torch.zeros(1000)}
    torch.save({**weights[0], **classifier}, place / "alexnet-owt-7be5be79.pth")
    # The package's own file is of the old kind, which is no zip archive.
    torch.save(weights[1], place / "alex.pth", _use_new_zipfile_serialization=False)
    return place


@pytest.fixture(scope="module")
def reader() -> Iterator[ChildProcess]:
    child = ChildProcess("pipeline.weights_reader")
    yield child
    child.close()


@pytest.fixture
def named(folder: Path, reader: ChildProcess, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder is named in the environment, and its weights are read."""
    lpips.lpips_weights(folder, reader)
    monkeypatch.setenv(lpips.VARIABLE, str(folder))
    return folder


@pytest.fixture(scope="module")
def pair() -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    from skimage import data

    clean = data.astronaut()[100:147, 190:233]
    noise = np.random.default_rng(0).normal(0, 20, clean.shape)
    return np.clip(clean + noise, 0, 255).round().astype(np.uint8), clean


def restated(image: NDArray[Any], clean: NDArray[Any], trunk: Weights, linear: Weights) -> float:
    """Zhang et al. 2018, equation 1, in float64 without torch: windows and inner products."""
    shift, scale = np.array([-0.030, -0.088, -0.188]), np.array([0.458, 0.448, 0.450])

    def windows(planes: NDArray[Any], size: int, stride: int) -> NDArray[Any]:
        return np.lib.stride_tricks.sliding_window_view(planes, (size, size), axis=(0, 1))[::stride, ::stride]

    def features(pixels: NDArray[Any]) -> list[NDArray[Any]]:
        planes = (pixels.astype(np.float64) / 255 * 2 - 1 - shift) / scale
        found = []
        for index, (_, _, size, _) in SHAPES.items():
            if index in (3, 6):
                planes = windows(planes, 3, 2).max(axis=(-1, -2))
            pad, stride = {11: (2, 4), 5: (2, 1), 3: (1, 1)}[size]
            padded = np.pad(planes, ((pad, pad), (pad, pad), (0, 0)))
            weight, bias = (trunk[f"features.{index}.{part}"].double().numpy() for part in ("weight", "bias"))
            planes = np.maximum(np.tensordot(windows(padded, size, stride), weight, ((2, 3, 4), (1, 2, 3))) + bias, 0)
            found.append(planes)
        return found

    total = 0.0
    for number, (first, second) in enumerate(zip(features(image), features(clean), strict=True)):
        first, second = (
            side / np.maximum(np.linalg.norm(side, axis=2, keepdims=True), 1e-10) for side in (first, second)
        )
        total += ((first - second) ** 2 @ linear[f"lin{number}.model.1.weight"].double().numpy().ravel()).mean()
    return total


@pytest.mark.usefixtures("named")
def test_the_distance_equals_a_restatement_in_numpy(pair: Any, weights: tuple[Weights, Weights]) -> None:
    expected = restated(*pair, *weights)
    assert expected > 0.01
    assert METRICS["lpips_alex"].run(*pair) == pytest.approx(expected, rel=1e-5)


@pytest.mark.usefixtures("named")
def test_bgr_gives_the_network_blue_for_red(pair: Any, weights: tuple[Weights, Weights]) -> None:
    expected = restated(pair[0][..., ::-1], pair[1][..., ::-1], *weights)
    found = measure(*pair, ("lpips_alex", "lpips_alex_bgr"))
    assert found["lpips_alex_bgr"] == pytest.approx(expected, rel=1e-5)
    assert abs(found["lpips_alex_bgr"] / found["lpips_alex"] - 1) > 1e-3


@pytest.mark.usefixtures("named")
def test_grey_is_three_equal_channels_and_floats_are_rounded(pair: Any) -> None:
    grey = [side[..., :1] for side in pair]
    run = METRICS["lpips_alex"].run
    assert run(*grey) == run(*(np.repeat(side, 3, axis=2) for side in grey))
    assert run((pair[0] + 0.3).astype(np.float32) / 255, pair[1]) == run(*pair)


@pytest.mark.usefixtures("named")
def test_equal_images_have_no_distance_and_31_pixels_are_enough() -> None:
    image = np.random.default_rng(0).random((31, 40, 3)).astype(np.float32)
    assert METRICS["lpips_alex"].run(image, image) == 0
    with pytest.raises(ValueError, match="lpips_alex needs at least 31x31 pixels, got 40x30"):
        METRICS["lpips_alex"].run(image[:30], image[:30])


def test_without_weights_the_metric_is_refused_with_what_to_put_where(
    monkeypatch: pytest.MonkeyPatch, pair: Any, tmp_path: Path
) -> None:
    monkeypatch.delenv(lpips.VARIABLE, raising=False)
    for ask in (lambda: pick_metrics(["psnr_y", "lpips_alex"]), lambda: METRICS["lpips_alex"].run(*pair)):
        with pytest.raises(UserError, match=r"set UNVEIL_LPIPS to a folder with .*alexnet\*\.pth.*alex\.pth") as caught:
            ask()
        assert "\n" not in str(caught.value)
    monkeypatch.setenv(lpips.VARIABLE, str(tmp_path / "nowhere"))
    with pytest.raises(UserError, match=r"UNVEIL_LPIPS=.*nowhere.*expected a folder, found none"):
        pick_metrics(["lpips_alex"])
    monkeypatch.setenv(lpips.VARIABLE, str(tmp_path))
    (tmp_path / "alex.pth").touch()
    with pytest.raises(UserError, match=r"expected one alexnet\* and one alex file, found 0 and 1"):
        pick_metrics(["lpips_alex_bgr"])


def test_safetensors_do_too_and_changed_files_are_read_again(
    tmp_path: Path, reader: ChildProcess, weights: tuple[Weights, Weights]
) -> None:
    safetensors.torch.save_file(weights[0], tmp_path / "alexnet.safetensors")
    safetensors.torch.save_file(weights[1], tmp_path / "alex.safetensors")
    read = lpips.lpips_weights(tmp_path, reader)
    assert all(torch.equal(read[name], tensor) for part in weights for name, tensor in part.items())
    assert lpips.lpips_weights(tmp_path, reader) is read
    doubled = {name: 2 * tensor for name, tensor in weights[1].items()}
    safetensors.torch.save_file(doubled, tmp_path / "alex.safetensors")
    assert torch.equal(lpips.lpips_weights(tmp_path, reader)["lin0.model.1.weight"], doubled["lin0.model.1.weight"])


def test_what_is_not_needed_of_alexnet_is_not_sent(folder: Path, reader: ChildProcess) -> None:
    read = read_weights(
        folder / "alexnet-owt-7be5be79.pth", first="features.0.weight", prefix="features.", what="it", reader=reader
    )
    assert len(read.names) == 2 * len(SHAPES)
    assert all(name.startswith("features.") for name in read.names)


def test_other_networks_and_programs_are_refused_by_name(
    tmp_path: Path, reader: ChildProcess, weights: tuple[Weights, Weights]
) -> None:
    torch.save(weights[1], tmp_path / "alex.pth")
    trunk = tmp_path / "alexnet.pth"
    torch.save({"features.0.weight": torch.zeros(64, 3, 3, 3)}, trunk)
    with pytest.raises(
        UserError, match=r"alexnet\.pth.*expected torchvision's AlexNet, with features\.0\.weight of shape"
    ):
        lpips.lpips_weights(tmp_path, reader)
    torch.save({"layer1.weight": torch.zeros(3)}, trunk)
    with pytest.raises(
        UserError, match=r"expected the weights of torchvision's AlexNet, found no 'features\.0\.weight'"
    ):
        lpips.lpips_weights(tmp_path, reader)
    torch.save({**weights[0], "features.3.bias": torch.full((192,), float("nan"))}, trunk)
    with pytest.raises(UserError, match=r"expected finite weights, found others in features\.3\.bias"):
        lpips.lpips_weights(tmp_path, reader)


class _Touch:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def test_a_pickle_with_a_program_is_not_run(tmp_path: Path, reader: ChildProcess) -> None:
    done = tmp_path / "done"
    (tmp_path / "alexnet.pth").write_bytes(pickle.dumps({"features.0.weight": _Touch(done)}, protocol=2))
    (tmp_path / "alex.pth").touch()
    with pytest.raises(UserError, match=r"alexnet\.pth"):
        lpips.lpips_weights(tmp_path, reader)
    assert not done.exists()
