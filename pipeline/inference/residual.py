"""What a denoiser took off one picture, from the picture alone: noise before and after, structure in the residual.

All of it follows from means, variances and covariances of the noisy and the denoised picture in blocks of 8x8, in the
middle of the picture, which costs a few milliseconds. `pipeline.evaluation.trust` measures a model with more care.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from pipeline.data.images import without_alpha
from pipeline.data.paths import shown

if TYPE_CHECKING:
    from pipeline.inference.results import FileResult

_BLOCK: Final = 8
MIDDLE: Final = 512
"""Larger pictures are measured in their middle: rows and columns of it."""

_LEAST_BLOCKS: Final = 16
_NOISE_LEFT: Final = 0.5
"""A share of the noise in flat blocks above which it is visible that a picture was not denoised."""

_VISIBLE_255: Final = 1.5
"""Noise below it is not missed by anybody."""

_STRUCTURE: Final = 0.3
"""Correlation of residual and picture above which edges can be seen in the residual."""

_NAMED: Final = 3


def residual_of(noisy: NDArray[np.float32], denoised: NDArray[np.float32]) -> dict[str, Any] | None:
    """Measure what was taken off.

    Args:
        noisy: (H, W, C) float32 in [0, 1], C in 1..4; alpha does not count.
        denoised: likewise.

    Returns:
        ``noise_before_255`` and ``noise_after_255``, the standard deviations inside the flattest half of the blocks,
        and ``removed_255``, that of their difference, in units of 1/255; ``structure``, the correlation of residual
        and denoised picture inside the other half: 0 if nothing but noise was taken off, positive where detail was.
        None for a picture below 32x32, or shapes that differ.
    """
    if noisy.shape != denoised.shape:
        return None
    before, after = (_blocks(without_alpha(image)) for image in (noisy, denoised))
    if len(before) < _LEAST_BLOCKS or not (np.isfinite(before).all() and np.isfinite(after).all()):
        return None
    before, after = (blocks - blocks.mean(axis=1, keepdims=True) for blocks in (before, after))
    removed = before - after
    content = np.square(after).mean(axis=(1, 2))
    flat = content <= np.median(content)
    noise, left, taken = (255 * float(np.sqrt(np.square(blocks[flat]).mean())) for blocks in (before, after, removed))
    return {
        "noise_before_255": round(noise, 3),
        "noise_after_255": round(left, 3),
        "removed_255": round(taken, 3),
        "structure": round(_correlation(removed[~flat], after[~flat]), 4) if (~flat).any() else None,
    }


def doubtful(files: Sequence[FileResult]) -> str | None:
    """Return a line about the files whose residual is suspicious, the worst ones by name, or None."""
    known = [(file.residual, file.source) for file in files if file.residual is not None]
    found: list[tuple[float, str, str]] = []
    for residual, source in known:
        before, after, structure = residual["noise_before_255"], residual["noise_after_255"], residual["structure"]
        if structure is not None and structure > _STRUCTURE:
            found.append((structure / _STRUCTURE, source, f"structure in the residual, correlation {structure:.2f}"))
        elif after > _NOISE_LEFT * before and after > _VISIBLE_255:
            found.append((after / before, source, f"noise {after:.1f} of {before:.1f}/255 left"))
    if not found:
        return None
    worst = "; ".join(f"{shown(Path(source).name)} ({why})" for _, source, why in sorted(found, reverse=True)[:_NAMED])
    return f"look at {len(found)} of {len(known)} files, worst: {worst}"


def _blocks(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """(N, 64, C) blocks of the middle of a picture."""
    top, left = (max(size - MIDDLE, 0) // 2 for size in image.shape[:2])
    part = image[top : top + MIDDLE, left : left + MIDDLE]
    rows, columns, channels = part.shape[0] // _BLOCK, part.shape[1] // _BLOCK, part.shape[2]
    part = part[: rows * _BLOCK, : columns * _BLOCK]
    grid = part.reshape(rows, _BLOCK, columns, _BLOCK, channels).swapaxes(1, 2)
    blocks: NDArray[np.float32] = grid.reshape(rows * columns, _BLOCK * _BLOCK, channels)
    return blocks


def _correlation(first: NDArray[np.float32], second: NDArray[np.float32]) -> float:
    scale = float(np.sqrt(np.square(first).mean() * np.square(second).mean()))
    return float((first * second).mean()) / scale if scale > 1e-12 else 0.0
