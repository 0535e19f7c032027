"""Small crops side by side in one picture, for a look at many at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.data.images import Metadata, from_float, read_image, to_float
from pipeline.data.paths import shown

Crop = NDArray[np.uint8]
"""(h, w, 1 or 3)."""

ROWS = 6
_GAP = 6
_CAPTION = 22
_TEXT = 14


def lay_out(
    rows: Sequence[Sequence[Crop]], captions: Sequence[str] | None = None, heads: Sequence[str] = ()
) -> NDArray[np.uint8]:
    """Lay crops out, a row of the sheet for each row given.

    Args:
        rows: the crops.
        captions: a line of text above each row; None leaves no room for any.
        heads: with captions, a line of text above each column.

    Returns:
        (H, W, 3) uint8; crops smaller than the largest stand on white.
    """
    above = 0 if captions is None else _CAPTION
    top = _CAPTION if heads else 0
    height = max(crop.shape[0] for row in rows for crop in row) + _GAP + above
    width = max(crop.shape[1] for row in rows for crop in row) + _GAP
    sheet = np.full((top + len(rows) * height - _GAP, max(map(len, rows)) * width - _GAP, 3), 255, np.uint8)
    for row_index, row in enumerate(rows):
        for column, crop in enumerate(row):
            at = sheet[top + row_index * height + above :, column * width :][: crop.shape[0], : crop.shape[1]]
            at[:] = crop
    if captions is None:
        return sheet
    texts = [(column * width, 0, head) for column, head in enumerate(heads)]
    texts += [(0, top + index * height, caption) for index, caption in enumerate(captions)]
    return _written(sheet, texts)


def pair_sheet(out: Path, files: Sequence[Mapping[str, Any]]) -> bytes:
    """Draw noisy, clean and difference of at most six pairs, evenly spaced, as a PNG.

    The window of each is the one of median detail in the clean picture. The difference stands on grey, stretched so
    that three robust standard deviations reach black and white.

    Args:
        out: folder of ``noisy`` and ``clean``.
        files: rows of the manifest, at least one.
    """
    from pipeline.data.png import encode_png
    from pipeline.evaluation.encoding import residual_limit
    from pipeline.evaluation.windows import choose_window, local_detail

    chosen = [files[index * len(files) // ROWS] for index in range(ROWS)]
    unique = [row for index, row in enumerate(chosen) if row not in chosen[:index]]
    rows, captions = [], []
    for row in unique:
        noisy, clean = (_rgb(out / part / row["name"]) for part in ("noisy", "clean"))
        window = choose_window(clean, local_detail(clean), "typical") if min(clean.shape[:2]) > 1 else ...
        difference = noisy[window] - clean[window]
        limit = residual_limit([difference.reshape(-1, 1, 1)])  # of the samples, not of their mean over the colours
        crops = (noisy[window], clean[window], 0.5 + difference / (2 * limit))
        rows.append([from_float(crop, np.uint8) for crop in crops])
        psnr = "equal" if row["psnr_rgb_u8"] is None else f"{row['psnr_rgb_u8']:.1f} dB"
        captions.append(f"{shown(Path(row['name']).stem)}   {level_text(row['parameters'])}   {psnr}")
    return encode_png(lay_out(rows, captions, ("noisy", "clean", "difference")), Metadata())


def level_text(parameters: Mapping[str, Any]) -> str:
    """Return what was drawn for one picture, in a few words."""
    kind = parameters["kind"]
    if kind == "sequence":
        return ", then ".join(level_text(step) for step in parameters["steps"])
    if kind == "camera":
        return f"camera, shot {parameters['shot']:.2g}, read {parameters['read']:.2g}"
    if kind == "eld":
        exposure = parameters["exposure"]
        return f"eld {parameters['sensor']}, K {exposure['gain']:.2g}, ratio {exposure['ratio']:.0f}"
    if kind == "correlated":
        sigma = " ".join(f"{sigma:.2g}" for sigma in parameters["sigma"])
        return f"correlated, sigma {sigma}, blur {parameters['blur']:.2g}"
    if kind == "monte_carlo":
        samples = parameters["samples"]
        return "rendering" if samples is None else f"{samples} spp"
    key = next(key for key in ("sigma", "variance", "alpha", "density", "level") if key in parameters)
    return f"{kind}, {key} {parameters[key]:.3g}"


def _rgb(path: Path) -> NDArray[np.float32]:
    image = to_float(read_image(path).pixels)
    return np.repeat(image, 3, axis=2) if image.shape[2] == 1 else image[..., :3]


def _written(sheet: NDArray[np.uint8], texts: Sequence[tuple[int, int, str]]) -> NDArray[np.uint8]:
    from PIL import Image as Picture
    from PIL import ImageDraw, ImageFont

    picture = Picture.fromarray(sheet)
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(_TEXT)
    for left, top, text in texts:
        draw.text((left + 2, top + 2), text, fill=(0, 0, 0), font=font)
    return np.asarray(picture)
