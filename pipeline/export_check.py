"""Runs an exported network where unveil is not to be found: a script for `python -I -S`, imported by nobody.

Arguments: ``pt2`` or ``onnx``, the exported file, an .npz of images (1, C, H, W) float32, where to write an .npz of the
outputs under the same names, and the folders where libraries are.
"""

import sys
from collections.abc import Callable
from typing import Any

_OURS = ("models", "noise", "pipeline", "raw", "tuning")


class _Absent:
    """Hides our packages, wherever they are installed."""

    def find_spec(self, name: str, *_: object) -> None:
        if name.split(".")[0] in _OURS:
            raise ModuleNotFoundError(f"{name} is hidden: an exported file must do without it", name=name)


def main(kind: str, file: str, images: str, outputs: str, *places: str) -> None:
    """Run the network on every image."""
    sys.path += places
    sys.meta_path.insert(0, _Absent())
    import numpy as np

    run = _pt2(file) if kind == "pt2" else _onnx(file)
    with np.load(images, allow_pickle=False) as given:
        np.savez(outputs, **{name: run(given[name]) for name in given.files})


def _pt2(file: str) -> Callable[[Any], Any]:
    import torch

    network = torch.export.load(file).module()

    def run(image: Any) -> Any:
        with torch.no_grad():
            return network(torch.from_numpy(image)).numpy()

    return run


def _onnx(file: str) -> Callable[[Any], Any]:
    import onnxruntime

    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    return lambda image: session.run(["denoised"], {"image": image})[0]


if __name__ == "__main__":
    main(*sys.argv[1:])
