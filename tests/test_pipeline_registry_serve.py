"""A registered model behind HTTP and from Python, where our packages cannot be imported: same bytes as our own CLI."""

from __future__ import annotations

import base64
import io
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import numpy as np
import pytest

from pipeline.data.images import Image, read_image, write_image
from tests.registered import weights

HIDE = """
import importlib.abc, sys
class Absent(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("raw", "noise", "models", "pipeline", "tuning", "rawpy", "skimage", "einops", "ray"):
            raise ModuleNotFoundError(f"{name} is not to be had here", name=name)
sys.meta_path.insert(0, Absent())
"""

Post = Callable[..., tuple[int, Any]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The weights that are served."""
    return weights(tmp_path_factory.mktemp("serve") / "w")


@pytest.fixture(scope="module")
def served(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Post]:
    """`mlflow models serve` of the champion; posts JSON and returns status and answer."""
    from pipeline.registry.store import register_weights

    base = tmp_path_factory.mktemp("server")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UNVEIL_HOME", str(tmp_path_factory.getbasetemp() / "home"))
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        from pipeline.tracking import tracking_uri

        register_weights(folder, experiment="serve", model="served", alias="champion")
        uri = tracking_uri()
    (base / "sitecustomize.py").write_text(HIDE)
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("UNVEIL", "PYTHON"))},
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(base),
        "MLFLOW_TRACKING_URI": uri,
        "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    hidden = subprocess.run([sys.executable, "-c", "import models"], cwd=base, env=environment, stderr=-3, check=False)
    assert hidden.returncode != 0
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = ["models", "serve", "-m", "models:/served@champion", "--env-manager", "local", "-h", "127.0.0.1"]
    log = (base / "log").open("w")
    server = subprocess.Popen(
        [sys.executable, "-m", "mlflow", *command, "-p", str(port)],
        cwd=base,
        env=environment,
        stdout=log,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )

    def post(inputs: Any, **params: Any) -> tuple[int, Any]:
        body = json.dumps({"inputs": inputs, "params": params}).encode()
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/invocations", body, {"Content-Type": "application/json"}
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, json.loads(answer.read())["predictions"]
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    deadline = time.monotonic() + 90
    while True:
        assert server.poll() is None, (base / "log").read_text()
        assert time.monotonic() < deadline, (base / "log").read_text()
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/ping", timeout=2).close()
            break
        except OSError:
            time.sleep(0.2)
    yield post
    os.killpg(server.pid, signal.SIGTERM)
    server.wait(30)
    log.close()


def ours(unveil: Any, folder: Path, pixels: np.ndarray, place: Path, suffix: str) -> np.ndarray:
    """What `unveil denoise` makes of the same pixels."""
    place.mkdir(exist_ok=True)
    write_image(place / f"in{suffix}", Image(pixels=pixels))
    out = place / "out"
    assert unveil("denoise", place / f"in{suffix}", "--model", folder, "--out", out, "--overwrite")[0] == 0
    return read_image(out / f"in{suffix}").pixels


def png(pixels: np.ndarray) -> str:
    file = io.BytesIO()
    iio.imwrite(file, pixels if pixels.shape[-1] > 1 else pixels[..., 0], extension=".png")
    return base64.b64encode(file.getvalue()).decode()


def npy(pixels: np.ndarray) -> str:
    file = io.BytesIO()
    np.save(file, pixels)
    return base64.b64encode(file.getvalue()).decode()


def from_npy(text: str) -> np.ndarray:
    return np.load(io.BytesIO(base64.b64decode(text)), allow_pickle=False)


def test_http_gives_the_bytes_of_our_own_command_line(served: Post, folder: Path, unveil: Any, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    for shape in ((33, 47, 3), (1, 1, 3), (20, 9, 1), (12, 13, 4)):
        pixels = random.integers(0, 256, shape, np.uint8)
        expected = ours(unveil, folder, pixels, tmp_path, ".png")
        assert not np.array_equal(expected, pixels) or pixels.size < 4
        status, found = served([png(pixels), png(pixels)])
        assert status == 200, found
        for text in found:
            made = iio.imread(base64.b64decode(text), extension=".png")
            assert np.array_equal(made.reshape(shape), expected)
        status, found = served(pixels.tolist(), dtype="uint8")
        assert status == 200, found
        assert np.array_equal(np.array(found, np.uint8), expected)
    deep = random.integers(0, 65536, (2, 21, 30, 3), np.uint16)
    status, found = served([npy(one) for one in deep])
    assert status == 200, found
    for text, one in zip(found, deep, strict=True):
        assert from_npy(text).dtype == np.uint16
        assert np.array_equal(from_npy(text), ours(unveil, folder, one, tmp_path, ".tiff"))
    light = random.random((17, 14, 3), dtype=np.float32) * 1.3
    status, found = served([npy(light)])
    assert status == 200, found
    assert np.array_equal(from_npy(found[0]), ours(unveil, folder, light, tmp_path, ".tiff"))
    status, found = served(light.tolist())
    assert status == 200, found
    assert np.array_equal(np.array(found, np.float32), ours(unveil, folder, light, tmp_path, ".tiff"))


def test_http_says_what_is_wrong_with_a_request(served: Post) -> None:
    numbers = np.zeros((4, 4, 3), int).tolist()
    bomb = io.BytesIO()
    np.lib.format.write_array_header_1_0(bomb, {"descr": "<f8", "fortran_order": False, "shape": (10**6, 10**6, 3)})
    for inputs, params, reason in (
        (numbers, {}, "set params.dtype to uint8, uint16 or float32"),
        (numbers, {"dtype": "int4"}, "expected one of uint8, uint16, float32, found 'int4'"),
        ([[[300, 1, 2]]], {"dtype": "uint8"}, "expected whole numbers from 0 to 255"),
        ([[[-1, 1, 2]]], {"dtype": "uint16"}, "expected whole numbers from 0 to 65535"),
        ([[0.5, 0.5]], {}, "expected an array of shape (B, H, W, C) or (H, W, C)"),
        ([[[0.5] * 7]], {}, "C in 1..4"),
        (["bm8gcGljdHVyZQ=="], {}, "expected base64 of a PNG or of a NumPy file"),
        (["~~~"], {}, "expected base64 of a PNG or of a NumPy file"),
        ([base64.b64encode(bomb.getvalue()).decode()], {}, "damaged or holds objects"),
        ([npy(np.array([{"a": 1}], object))], {}, "damaged or holds objects"),
        ([[[0.5, 0.5, 0.5]]], {"strength": 2.0}, "strength must be 0 to 1"),
    ):
        status, text = served(inputs, **params)
        assert status == 400, text
        assert reason in json.loads(text)["stack_trace"].strip().splitlines()[-1], text


def test_python_takes_every_dtype_and_shape_and_the_seed_decides(folder: Path, served: Post) -> None:
    """`served` has registered it; here the network code is imported under its own name, beside ours."""
    import mlflow

    from pipeline.tracking import connect

    connect()
    model = mlflow.pyfunc.load_model("models:/served@champion")
    random = np.random.default_rng(1)
    for dtype in (np.uint8, np.uint16, np.float32):
        batch = (random.random((2, 19, 23, 3)) * (np.iinfo(dtype).max if dtype != np.float32 else 1)).astype(dtype)
        found = model.predict(batch)
        assert (found.dtype, found.shape) == (dtype, batch.shape)
        assert np.array_equal(model.predict(batch[1]), found[1])
        assert not np.array_equal(model.predict(batch, {"seed": 7}), found)
        assert np.array_equal(model.predict(batch, {"seed": 0}), found)
        assert np.array_equal(model.predict(batch, {"strength": 0.0}), batch)
    half = model.predict(batch, {"strength": 0.5})
    assert np.allclose(half, (batch + found) / 2, atol=1e-6)
    assert model.metadata.signature.params.to_dict()[0]["name"] == "seed"
    example = model.input_example
    assert from_npy(model.predict(example)[0]).dtype == np.uint8


def test_a_model_for_raw_files_is_refused_where_it_cannot_be_served(tmp_path: Path) -> None:
    import mlflow

    from pipeline.registry.store import register_weights

    raw = weights(tmp_path / "raw", channels=4, domain="raw", raw={"curve": "linear"})
    register_weights(raw, experiment="serve", model="raws", alias="champion")
    with pytest.raises(ValueError, match=r"trained on the planes of raw files.*unveil denoise RAW") as caught:
        mlflow.pyfunc.load_model("models:/raws@champion")
    assert "\n" not in str(caught.value)
