"""The SIDD benchmark, sRGB: 1280 noisy blocks whose clean partners only the server has."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.benchmarks.kaggle import check_csv, write_csv
from pipeline.benchmarks.submission import claim_folder
from pipeline.data.blocks import Blocks
from pipeline.data.images import from_float, replacing, to_float
from pipeline.data.paths import shown
from pipeline.errors import RunError, UserError
from pipeline.inference.denoiser import Denoiser

CSV_NAME, MAT_NAME = "SubmitSrgb.csv", "SubmitSrgb.mat"
PUBLISHED = (40, 32, 256, 256, 3)
"""Shape of BenchmarkNoisyBlocksSrgb: images, blocks an image, height, width, colours."""

OPTIONAL = {"MethodName": "unveil", "Authors": "", "PaperTitle": "", "Venue": ""}
"""What the server at York showed beside the numbers."""


def open_benchmark(data: Path) -> Blocks:
    """Open the benchmark's file, or the folder that holds it.

    Raises:
        UserError: as for `pipeline.data.blocks.Blocks`.
    """
    return Blocks(data / "BenchmarkNoisyBlocksSrgb.mat" if data.is_dir() else data)


def check_free(out: Path, *, old_server: bool, overwrite: bool) -> None:
    """Raise UserError if a file of the submission is there already and may not be replaced."""
    for name in (CSV_NAME, *((MAT_NAME,) if old_server else ())):
        if (out / name).exists() and not overwrite:
            raise UserError(f"{shown(out / name)}: exists; pass --overwrite to replace it, or use another --out")


def submit_sidd(
    denoiser: Denoiser,
    blocks: Blocks,
    out: Path,
    *,
    old_server: bool = False,
    about: Mapping[str, str] | None = None,
    overwrite: bool = False,
    on_progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Denoise every block, write ``SubmitSrgb.csv``, read it again and compare.

    A block goes in as uint8 / 255 and comes out clipped to [0, 1], times 255, rounded to the nearest integer, in the
    shape and type of the block. One CSV serves the PSNR and the SSIM competition.

    Args:
        denoiser: called with each block.
        blocks: of `open_benchmark`.
        out: folder to write to; created.
        old_server: also write ``SubmitSrgb.mat``, as the server at York took it.
        about: what its ``OptionalData`` says, by the names of `OPTIONAL`; by default the method is unveil.
        overwrite: replace files that are there.
        on_progress: called as (blocks done, blocks).

    Returns:
        A dict that JSON can hold: the files, blocks, shape, sha256 of the denoised bytes, seconds_per_megapixel,
        whether the shape is the published one (``complete``), and what made it.

    Raises:
        UserError: a file is there already, or the model cannot denoise a block.
        RunError: what was read again is not what was written.
    """
    check_free(out, old_server=old_server, overwrite=overwrite)
    made_by = claim_folder(out, "sidd", denoiser, overwrite=overwrite)
    kept = np.empty(blocks.shape, np.uint8) if old_server else None
    seconds = 0.0

    def denoised() -> Iterator[NDArray[np.uint8]]:
        nonlocal seconds
        for index in range(len(blocks)):
            noisy = blocks.block(index)
            start = time.perf_counter()
            block = denoise_block(denoiser, noisy, index)
            seconds += time.perf_counter() - start
            if kept is not None:
                kept[divmod(index, blocks.shape[1])] = block
            yield block
            if on_progress is not None:
                on_progress(index + 1, len(blocks))

    path = out / CSV_NAME
    written = write_csv(path, denoised())
    size = int(np.prod(blocks.shape[2:]))
    if check_csv(path, len(blocks), size) != written:
        raise RunError(f"{shown(path)}: expected the bytes that were written, found others; is the disk sound?")
    per_megapixel = seconds / (len(blocks) * size / 3 / 1e6)
    if kept is not None:
        _write_mat(out / MAT_NAME, kept, per_megapixel, about or {})
    return {
        "benchmark": "sidd",
        "csv": str(path),
        "mat": str(out / MAT_NAME) if kept is not None else None,
        "blocks": len(blocks),
        "shape": list(blocks.shape),
        "dtype": "uint8",
        "sha256": written,
        "checked": True,
        "complete": blocks.shape == PUBLISHED,
        "seconds_per_megapixel": round(per_megapixel, 4),
        "made_by": made_by,
    }


def denoise_block(denoiser: Denoiser, noisy: NDArray[np.uint8], index: int) -> NDArray[np.uint8]:
    """Return the denoised block as uint8 of the same shape, rounded to the nearest value."""
    result = denoiser(to_float(noisy))
    if result.shape != noisy.shape or not np.isfinite(result).all():
        raise UserError(f"block {index}: the model returned no picture of the same size with finite values")
    return np.asarray(from_float(result, np.uint8))


def _write_mat(path: Path, blocks: NDArray[np.uint8], per_megapixel: float, about: Mapping[str, str]) -> None:
    from scipy.io import loadmat, savemat

    optional = {**OPTIONAL, **about}
    with replacing(path) as temporary:
        values = {"DenoisedBlocksSrgb": blocks, "TimeMPSrgb": per_megapixel, "OptionalData": optional}
        savemat(str(temporary), values, appendmat=False, do_compression=True)
    again = loadmat(str(path), variable_names=["DenoisedBlocksSrgb"])["DenoisedBlocksSrgb"]
    if again.dtype != np.uint8 or not np.array_equal(again, blocks):
        raise RunError(f"{shown(path)}: expected the blocks that were written, found others; is the disk sound?")
