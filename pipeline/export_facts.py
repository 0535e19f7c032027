"""What the program that loads an exported network must know, and must do itself: the .json beside the file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal

if TYPE_CHECKING:
    from models import LoadedModel

Format = Literal["pt2", "onnx"]

OPSET: Final = 18
"""Of ONNX; understood by ONNX Runtime 1.15 (2023) and later."""

_SIDECAR_FORMAT = 1


def export_facts(loaded: LoadedModel, kind: Format, seed: int | None) -> dict[str, Any]:
    """What the caller must know and do."""
    import torch

    from models.export import size_rule
    from models.spec_io import spec_to_dict
    from pipeline import __version__

    multiple, minimum = size_rule(loaded.network)
    shape = ["1", str(loaded.network.channels), "height", "width"]
    return {
        "format": _SIDECAR_FORMAT,
        "kind": kind,
        "input": {
            "name": "image",
            "layout": "NCHW",
            "shape": shape,
            "dtype": "float32",
            "range": [0, 1],
            "multiple": multiple,
            "minimum": minimum,
            "padding": "right and bottom: mirrored without the edge pixel, repeated where the image is too small",
            "mean": "nothing to subtract",
        },
        "output": {"name": "denoised", "shape": shape, "dtype": "float32", "clipped": False, "crop": "to the image"},
        "attention": "none" if not loaded.network.stochastic else "off" if seed is None else "seeded",
        "seed": seed,
        "outside": _outside(loaded, seed),
        "network": spec_to_dict(loaded.spec),
        "inference": spec_to_dict(loaded.inference),
        "weights_sha256": loaded.sha256,
        "made_by": {"unveil": __version__, "torch": torch.__version__} | ({"opset": OPSET} if kind == "onnx" else {}),
    }


def _outside(loaded: LoadedModel, seed: int | None) -> list[str]:
    """What `unveil denoise` does around the network for this model, and this file does not."""
    inference = loaded.inference
    steps = ["pad to the multiple, at least to the minimum, and crop", "clip to [0, 1]"]
    if inference.mode == "multi_mask":
        steps.append(
            f"multi-mask denoising: {inference.draws} draws of {inference.mask_count} complementary masks, hidden "
            f"pixels filled ({inference.fill}), every pixel taken from the pass that hid it"
        )
    if inference.pd_stride > 1:
        steps.append(f"pixel-shuffle downsampling by {inference.pd_stride}, and back")
    if seed is not None:
        steps.append("masks follow the position in the array: pass whole images, as tiles would repeat the same masks")
        if inference.draws > 1:
            steps.append(f"the average of {inference.draws} draws of the masks; this file has the first")
    if inference.offset != "keep":
        steps.append("the correction of brightness and colour towards the noisy image")
    return steps
