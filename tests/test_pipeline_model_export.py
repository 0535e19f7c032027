"""`unveil models export`: what is kept runs where unveil is not, at any size, and computes what the network does."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from models import InferenceSpec, MaskedSwinSpec, NetworkSpec, UNetSpec, denoise, load, save
from models.build import build
from pipeline import model_export
from pipeline.errors import RunError, UserError
from pipeline.model_export import export_model

ROOT = Path(__file__).resolve().parent.parent
SWIN = MaskedSwinSpec(dim=12, depths=(2,), heads=(2,), attention_ratio=0.6)

Run = Callable[..., tuple[int, dict[str, Any] | None, str]]
needs_onnx = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("onnx", "onnxruntime", "onnxscript")),
    reason="the extra onnx is not installed",
)


@pytest.fixture
def weights(tmp_path: Path) -> Callable[..., str]:
    """Save a network in which nothing is zero that training would move."""

    def make(spec: NetworkSpec, inference: InferenceSpec) -> str:
        network = build(spec).eval().requires_grad_(False)
        generator = torch.Generator().manual_seed(1)
        for parameter in network.parameters():
            parameter += torch.randn(parameter.shape, generator=generator) * 0.05
        save(tmp_path / "weights", network, spec=spec, inference=inference, card={})
        return str(tmp_path / "weights")

    return make


def documented(kind: str) -> str:
    """The loader that docs/weights.md shows."""
    snippets = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "weights.md").read_text("utf-8"), re.DOTALL)
    (snippet,) = (code for code in snippets if f"denoiser.{kind}.json" in code)
    return str(snippet)


def elsewhere(folder: Path, code: str) -> None:
    """Run code in a process that cannot import our packages."""
    hidden = "import sys\n" + "".join(f"sys.modules[{name!r}] = None\n" for name in model_export_packages())
    places = [place for place in sys.path if "packages" in place]
    run = subprocess.run(
        [sys.executable, "-I", "-S", "-c", f"{hidden}sys.path += {places!r}\n{code}"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr


def model_export_packages() -> tuple[str, ...]:
    return ("models", "noise", "pipeline", "raw", "tuning")


# An ONNX model is made from such a program as a .pt2 holds, so the masks of the one are those of the other.
@pytest.mark.parametrize(("kind", "attention"), [("pt2", "off"), pytest.param("onnx", "seeded", marks=needs_onnx)])
def test_the_documented_loader_denoises_any_picture_as_we_do(
    kind: str, attention: str, weights: Callable[..., str], unveil: Run, tmp_path: Path
) -> None:
    inference = InferenceSpec(attention="seeded", seed=5)
    folder, file = weights(SWIN, inference), tmp_path / f"denoiser.{kind}"
    # The card says "seeded".
    option = () if attention == "seeded" else ("--attention", "off")
    code, facts, stderr = unveil("models", "export", folder, "--out", file, "--json", *option)
    assert (code, stderr) == (0, "")
    assert facts is not None
    assert (facts["attention"], facts["seed"]) == (attention, 5 if attention == "seeded" else None)
    assert any("tiles" in step for step in facts["outside"]) == (attention == "seeded")
    assert (facts["input"]["multiple"], facts["input"]["minimum"]) == (8, 16)
    sizes = [(row["height"], row["width"]) for row in facts["checked"]]
    assert sizes == [(64, 64), (16, 40), (56, 32)]
    assert all(row["largest_difference"] < 1e-5 for row in facts["checked"])
    sidecar = json.loads((tmp_path / f"denoiser.{kind}.json").read_text())
    assert facts == sidecar | {"file": str(file), "sidecar": f"{file}.json"}
    assert sidecar["kind"] == kind
    assert b"/work" not in file.read_bytes()
    assert str(ROOT).encode() not in file.read_bytes()

    image = np.random.default_rng(0).random((37, 50, 3), dtype=np.float32)
    np.save(tmp_path / "image.npy", image)
    elsewhere(tmp_path, f"{documented(kind)}\nnp.save('denoised.npy', denoise(np.load('image.npy')))")
    loaded = load(Path(folder))
    expected = denoise(
        loaded.network, torch.from_numpy(image.transpose(2, 0, 1))[None], replace(inference, attention=attention)
    )
    expected = expected[0].numpy().transpose(1, 2, 0).clip(0, 1)
    np.testing.assert_allclose(np.load(tmp_path / "denoised.npy"), expected, rtol=0, atol=1e-5)


def test_the_card_decides_and_the_sidecar_says_what_the_file_leaves_out(
    weights: Callable[..., str], tmp_path: Path
) -> None:
    spec, inference = UNetSpec(width=4, depth=2), InferenceSpec(mode="multi_mask", pd_stride=2, draws=4)
    done = export_model(weights(spec, inference), tmp_path / "a.pt2", height=20, width=12)
    assert (done.facts["attention"], done.facts["seed"]) == ("none", None)
    assert [row["height"] for row in done.facts["checked"]] == [20, 8, 28]
    text = "; ".join(done.facts["outside"])
    assert "multi-mask denoising: 4 draws of 2 complementary masks" in text
    assert "pixel-shuffle downsampling by 2" in text
    extra = {"unveil.json": ""}
    graph = torch.export.load(done.file, extra_files=extra).module()
    with pytest.raises(AssertionError, match="Guard failed"):
        graph(torch.zeros(1, 3, 10, 12))
    inside = json.loads(extra["unveil.json"])
    assert inside["outside"] == done.facts["outside"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.pt2", "a.pt2.json", "weights"]


def test_a_file_that_differs_from_the_network_is_not_kept(
    weights: Callable[..., str], unveil: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trace = model_export._trace

    def spoilt(loaded: Any, *arguments: Any) -> Any:
        program = trace(loaded, *arguments)
        # What was traced shares its weights with the network; this one no longer does.
        shifted = program.state_dict["inner.head.bias"] + 2e-4
        program.state_dict["inner.head.bias"] = torch.nn.Parameter(shifted, requires_grad=False)
        return program

    monkeypatch.setattr(model_export, "_trace", spoilt)
    folder = weights(UNetSpec(width=4, depth=1), InferenceSpec())
    code, value, stderr = unveil("models", "export", folder, "--out", tmp_path / "a.pt2", "--json")
    assert code == 1
    assert value is not None
    assert re.search(
        r"the pt2 file differs from the network by 0\.0002 at 64x64, more than 0\.0001; it was not", stderr
    )
    assert [path.name for path in tmp_path.iterdir()] == ["weights"]


def test_a_file_that_needs_our_packages_is_not_kept(tmp_path: Path) -> None:
    script = ROOT / "pipeline" / "export_check.py"
    places = [str(ROOT), *(place for place in sys.path if "packages" in place)]
    code = (
        f"import runpy, sys\nsys.argv = {[str(script), 'onnx', 'none.onnx', 'none', 'none', *places]!r}\n"
        "try:\n    runpy.run_path(sys.argv[0], run_name='__main__')\nexcept Exception:\n    pass\n"
        "import numpy\nimport models\n"
    )
    run = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=False)
    assert "ModuleNotFoundError: models is hidden" in run.stderr
    # A broken file ends in one line and leaves nothing.
    broken = tmp_path / "a.pt2"
    broken.write_bytes(b"nothing")
    with pytest.raises(RunError, match="the pt2 file does not run in another process") as caught:
        model_export._run_elsewhere("pt2", broken, [torch.zeros(1, 3, 8, 8)])
    assert "\n" not in str(caught.value)


def test_a_wrong_call_is_one_line_and_leaves_nothing(
    weights: Callable[..., str], unveil: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = weights(UNetSpec(width=4, depth=2), InferenceSpec())
    for arguments, reason in (
        (("--out", tmp_path / "a.bin"), "--format: expected pt2 or onnx, here or as the ending of --out, found 'bin'"),
        (
            ("--out", tmp_path / "a.pt2", "--format", "tflite"),
            "--format: expected one of pt2, onnx, unveil, found 'tflite'",
        ),
        (("--out", tmp_path / "a.pt2", "--attention", "seeded"), "expected a network with attention masks"),
        (("--out", tmp_path / "a.pt2", "--attention", "some"), "--attention: expected one of off, seeded"),
        (("--out", tmp_path / "a.pt2", "--height", "30"), "--height: expected a multiple of 4, at least 8, found 30"),
        (("--out", tmp_path / "a.pt2", "--width", "4"), "--width: expected a multiple of 4, at least 8, found 4"),
        (("--out", tmp_path / "none" / "a.pt2"), "expected a folder to write into"),
        (("--out", tmp_path / "weights" / "model.json", "--format", "pt2"), "expected a file that does not exist yet"),
    ):
        code, _, stderr = unveil("models", "export", folder, *arguments)
        assert code == 2
        assert reason in stderr
        assert len(stderr.strip().splitlines()) == 1
    monkeypatch.setattr(model_export, "_ONNX_LIBRARIES", ("onnx_that_nobody_has",))
    with pytest.raises(UserError, match=r"expected onnx_that_nobody_has, .* pip install -e '\.\[onnx\]'"):
        export_model(folder, tmp_path / "a.onnx")
    shutil.rmtree(folder)
    code, _, stderr = unveil("models", "export", folder, "--out", tmp_path / "a.pt2")
    assert code == 2
    assert "expected a weights folder" in stderr
    assert list(tmp_path.iterdir()) == []
