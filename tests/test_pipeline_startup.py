"""What `unveil denoise one.png` loads before it denoises: nothing that it does not need."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from models import InferenceSpec, NetworkSpec, build, default_specs, save
from models.build import build_empty
from pipeline.data.images import Image, write_image

ROOT = Path(__file__).resolve().parent.parent
CODE = """
import json, sys
from pipeline.cli import main
try:
    main(sys.argv[1:])
except SystemExit as stop:
    assert not stop.code, stop.code
print(json.dumps(sorted(sys.modules)))
"""
HEAVY = ("ray", "mlflow", "scipy", "skimage", "pandas", "matplotlib", "imageio", "rawpy", "tifffile", "sympy")


def loaded(*arguments: object) -> set[str]:
    command = [sys.executable, "-c", CODE, *map(str, arguments)]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    return set(json.loads(run.stdout.splitlines()[-1]))


def test_denoising_a_picture_loads_neither_clusters_nor_compilers(tmp_path):
    spec = default_specs()["unet"]
    save(tmp_path / "model", build(spec, seed=0), spec=spec, inference=InferenceSpec(), card={})
    write_image(tmp_path / "a.png", Image(pixels=np.full((40, 40, 3), 90, np.uint8)))
    modules = loaded("denoise", tmp_path / "a.png", "--model", tmp_path / "model", "--out", tmp_path / "out")
    assert (tmp_path / "out" / "a.png").is_file()
    assert "torch" in modules
    assert [name for name in (*HEAVY, "torch._dynamo") if name in modules] == []


@pytest.mark.parametrize("spec", default_specs().values(), ids=default_specs())
def test_an_empty_network_draws_nothing_and_has_the_layout_of_a_full_one(spec: NetworkSpec):
    empty, full = build_empty(spec).state_dict(), build(spec).state_dict()
    assert {name: (value.shape, value.dtype) for name, value in empty.items()} == {
        name: (value.shape, value.dtype) for name, value in full.items()
    }
    assert all(value.is_meta for value in empty.values())
