"""Which pixels a run hides, and when: drawn by the project's own mask functions from the run's settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]

SIDE = 32
"""Pixels or tokens across a drawing."""

_SEED = 7
_MOST_PARTS = 4
_HIDDEN, _SEEN = (36, 62, 106), (226, 232, 240)
_BORDER = (240, 150, 20)
_PARTS = ((224, 158, 20), (86, 180, 233), (20, 158, 115), (204, 121, 167))
_REST = (226, 226, 222)


def mask_pictures(config: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return drawings of the masks of a run: dicts with title, caption and pixels, (H, W, 3) uint8.

    Args:
        config: resolved and nested, as in config.json; a configuration without masks gives an empty list.
    """
    method = config.get("method") or {}
    if isinstance(config.get("student"), Mapping):
        method = config["student"].get("method") or {}
    network = config.get("network") or {}
    drawn = []
    if method.get("kind") == "masked":
        drawn += _input(method)
    if method.get("kind") == "asymmetric":
        drawn += _complementary(method, "training", "each step hides the pixels of one colour and learns to tell them")
    drawn += _attention(network)
    inference = config.get("inference") or {}
    if inference.get("mode") == "multi_mask":
        count = "every colour is hidden once, so that each pixel is told without its own noisy value"
        drawn += _complementary(inference, "denoising", count)
    return drawn


def _input(method: Mapping[str, Any]) -> list[dict[str, Any]]:
    import torch

    from models.masks import input_mask

    low, high = (float(end) for end in method["input_ratio"])
    ends = [low] if low == high else [low, high]
    seeds = torch.tensor([_SEED])
    drawn = []
    for ratio in ends:
        if ratio == 0:
            continue
        mask = input_mask(seeds, ratio, SIDE, SIDE)[0, 0].numpy()
        which = "pixels" if method.get("site", "pixel") == "pixel" else "tokens"
        end = "" if low == high else ", the least" if ratio == low else ", the most"
        drawn.append(
            {
                "title": f"Input mask, {100 * ratio:.0f} %{end}",
                "caption": f"{which} that the network is not shown (dark), new for every crop",
                "pixels": _two(mask),
            }
        )
    return drawn


def _attention(network: Mapping[str, Any]) -> list[dict[str, Any]]:
    import torch

    from models.masks import attention_mask

    if network.get("kind") != "masked_swin":
        return []
    ratios = _ratios(network)
    depth, window = sum(network.get("depths") or [0]), int(network.get("window", 8))
    drawn = []
    for layer in range(min(depth, 2)):
        ratio = ratios[min(layer, len(ratios) - 1)]
        if ratio == 0:
            continue
        mask = attention_mask(torch.tensor([_SEED]), ratio, layer, SIDE, SIDE)[0].numpy()
        shift = window // 2 if layer % 2 else 0
        drawn.append(
            {
                "title": f"Attention mask, block {layer + 1}, {100 * ratio:.0f} %",
                "caption": f"tokens hidden from self-attention (dark); windows of {window}x{window}"
                + (f", shifted by {shift}" if shift else ""),
                "pixels": _windows(_two(mask, 6), window * 6, shift * 6),
            }
        )
    if drawn and depth > 1:
        share = float(np.mean([ratios[min(layer, len(ratios) - 1)] for layer in range(depth)]))
        masks = [
            attention_mask(torch.tensor([_SEED]), ratios[min(layer, len(ratios) - 1)], layer, SIDE, SIDE)[0].numpy()
            for layer in range(depth)
        ]
        coverage = np.mean(masks, axis=0)
        drawn.append(
            {
                "title": f"Attention masks of all {depth} blocks",
                "caption": f"how often each token is hidden: {100 * share:.0f} % on average, dark for always",
                "pixels": _large(_mixed(coverage)),
            }
        )
    return drawn


def _ratios(network: Mapping[str, Any]) -> list[float]:
    own = network.get("attention_ratios") or []
    if own:
        return [float(ratio) for ratio in own]
    ratio = network.get("attention_ratio", 0.75)
    return [float(np.mean(ratio)) if isinstance(ratio, list | tuple) else float(ratio)]


def _complementary(spec: Mapping[str, Any], when: str, caption: str) -> list[dict[str, Any]]:
    import torch

    from models.holes import Partition

    partition = Partition(
        mask_count=int(spec["mask_count"]),
        hole=tuple(spec.get("hole", (1, 1))),
        hole_shape=spec.get("hole_shape", "box"),
        layout=spec.get("layout", "random"),
    )
    numbers = partition.numbers(torch.tensor([_SEED]), SIDE, SIDE)[0, 0].numpy()
    colours = np.array([*_PARTS, _REST], np.uint8)
    down, right = (side // 2 for side in partition.hole)
    picture = colours[np.minimum(numbers, _MOST_PARTS)][down : down + SIDE, right : right + SIDE]
    stride = int(spec.get("pd_stride", 1))
    extra = f", the first {_MOST_PARTS} of them in colour" if partition.count > _MOST_PARTS else ""
    holes = f"; a hole of {partition.hole[0]}x{partition.hole[1]} around each" if partition.hole != (1, 1) else ""
    sub = f", on every {stride}th pixel across and down" if stride > 1 else ""
    return [
        {
            "title": f"{partition.count} masks in {when}",
            "caption": f"{caption}{extra}{holes}{sub}",
            "pixels": _large(picture),
        }
    ]


def _two(mask: NDArray[np.bool_], times: int = 6) -> Pixels:
    picture = np.where(mask[..., None], np.array(_HIDDEN, np.uint8), np.array(_SEEN, np.uint8))
    return _large(picture, times)


def _mixed(share: NDArray[np.floating[Any]]) -> Pixels:
    seen, hidden = np.array(_SEEN, np.float64), np.array(_HIDDEN, np.float64)
    return np.rint(seen + share[..., None] * (hidden - seen)).astype(np.uint8)


def _large(picture: NDArray[np.uint8], times: int = 6) -> Pixels:
    return picture.repeat(times, 0).repeat(times, 1)


def _windows(picture: Pixels, window: int, shift: int) -> Pixels:
    lined = picture.copy()
    for at in range(shift, picture.shape[0], window):
        lined[max(at - 1, 0) : at + 1] = _BORDER
        lined[:, max(at - 1, 0) : at + 1] = _BORDER
    return lined
