"""The contact sheet: crops at native size, small enough that a hundred images fit into one file, noise intact.

JPEG without chroma subsampling: WebP halves the resolution of colour and takes half of the colour noise away, which is
the very thing to be looked at. Measured on crops of cameras and of made noise, it keeps 53 % of the chroma
noise at quality 95, and JPEG 4:4:4 at quality 90 all of it (98 to 103 %) at 23 kB a crop.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.data.paths import shown
from pipeline.evaluation.encoding import residual_limit
from pipeline.evaluation.report_words import psnr_text

Crop = NDArray[np.uint8]

BUDGET = 6_300_000
"""Characters of all pictures of the sheet as data URLs: leaves the rest of a report more than 3 MB below 10."""

SIDE = 192
_QUALITIES = (95, 90, 85, 80)
_LAYERS = ("noisy", "denoised", "clean", "residual")


def sheet_board(sheet: Sequence[Mapping[str, Any]], budget: int = BUDGET) -> dict[str, Any] | None:
    """Return the tiles of the contact sheet; None if there are none.

    Args:
        sheet: dicts with name, set, noisy, denoised and clean (or None): (h, w, 1 or 3) uint8; psnr_noisy and
            psnr_denoised (or None). Crops larger than 192 are cut to their middle.
        budget: most characters of all data URLs together.
    """
    if not sheet:
        return None
    crops = [_layers(item) for item in sheet]
    limit = _limit(crops)
    for layers in crops:
        layers["residual"] = _residual(layers["noisy"], layers["denoised"], limit)
    side, quality = _choose(crops, budget)
    tiles = []
    for item, layers in zip(sheet, crops, strict=True):
        noisy, denoised = item.get("psnr_noisy"), item.get("psnr_denoised")
        gain = None if noisy is None or denoised is None else float(denoised) - float(noisy)
        tiles.append(
            {
                "name": shown(str(item["name"])),
                "set": shown(str(item.get("set") or "")) if item.get("set") else "",
                "urls": {name: jpeg_url(_middle(crop, side), quality) for name, crop in layers.items()},
                "width": _middle(layers["noisy"], side).shape[1],
                "height": _middle(layers["noisy"], side).shape[0],
                "noisy": "" if noisy is None else psnr_text(noisy),
                "denoised": "" if denoised is None else psnr_text(denoised),
                "gain": "" if gain is None else f"{gain:+.1f}".replace("-", "\N{MINUS SIGN}"),
                "worse": gain is not None and gain < 0,
            }
        )
    sets = list(dict.fromkeys(tile["set"] for tile in tiles))
    return {
        "groups": [{"name": name, "tiles": [tile for tile in tiles if tile["set"] == name]} for name in sets],
        "count": len(tiles),
        "limit": f"{limit:.0f}",
        "quality": quality,
        "side": side,
    }


def jpeg_url(crop: Crop, quality: int) -> str:
    """Return a JPEG data URL of (h, w, 1 or 3) uint8, colour at full resolution."""
    return "data:image/jpeg;base64," + base64.b64encode(_jpeg(crop, quality)).decode("ascii")


def _jpeg(crop: Crop, quality: int) -> bytes:
    from PIL import Image

    file = io.BytesIO()
    picture = Image.fromarray(np.ascontiguousarray(crop[..., 0] if crop.shape[2] == 1 else crop))
    picture.save(file, "JPEG", quality=quality, subsampling=0, optimize=True)
    return file.getvalue()


def _layers(item: Mapping[str, Any]) -> dict[str, Crop]:
    return {
        name: _middle(np.asarray(item[name], np.uint8), SIDE)
        for name in ("noisy", "denoised", "clean")
        if item.get(name) is not None
    }


def _middle(crop: Crop, side: int) -> Crop:
    top, left = (max(length - side, 0) // 2 for length in crop.shape[:2])
    middle: Crop = crop[top : top + side, left : left + side]
    return middle


def _limit(crops: Sequence[Mapping[str, Crop]]) -> float:
    """One saturation value for all residuals of the sheet, in grey levels."""
    scale = np.float32(1 / 255)
    differences = [scale * (layers["noisy"].astype(np.float32) - layers["denoised"]) for layers in crops]
    return 255 * residual_limit(differences)


def _residual(noisy: Crop, denoised: Crop, limit: float) -> Crop:
    """(h, w, 1) uint8, 128 for zero: the page gives it its colours, so that it costs a third of a colour picture."""
    mean = (noisy.astype(np.float32) - denoised).mean(axis=2, keepdims=True)
    grey: Crop = np.rint(127.5 + 127.5 * np.clip(mean / limit, -1, 1)).astype(np.uint8)
    return grey


def _choose(crops: Sequence[Mapping[str, Crop]], budget: int) -> tuple[int, int]:
    """The largest crop and the best quality that keep the budget, judged by crops spread over the sheet."""
    sample = crops[:: max(len(crops) // 8, 1)]
    for side in (SIDE, 160, 128, 96, 64):
        for quality in _QUALITIES:
            sizes = [len(_jpeg(_middle(crop, side), quality)) + 24 for layers in sample for crop in layers.values()]
            # A twelfth more: the sample may be easier than the rest.
            if 13 / 12 * 4 / 3 * sum(sizes) * len(crops) / len(sample) <= budget:
                return side, quality
    return 64, _QUALITIES[-1]
