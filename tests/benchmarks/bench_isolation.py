"""What the child process costs: raw and TIFF files read through it and in this process, best of several.

    OMP_NUM_THREADS=1 python -m tests.benchmarks.bench_isolation [FILE ...]

Without files, the camera files of ../shared and a 24-megapixel TIFF made here.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from pipeline.data.images import Image, write_image
from pipeline.data.tiff import decode_tiff
from pipeline.data.tiff_isolated import decode_tiff_isolated
from raw.files import RAW_SUFFIXES, raw_size, read_raw, render_srgb
from raw.isolated import DECODER, MAX_PIXELS, raw_size_isolated, read_raw_isolated, render_srgb_isolated
from tests.benchmarks.fuzz_files import SHARED

REPEATS = 7


def milliseconds(call: Callable[[], object]) -> float:
    """Best wall time of several calls after one that warms up."""
    call()
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return 1000 * min(times)


def rows(path: Path) -> list[tuple[str, Callable[[], object], Callable[[], object]]]:
    """Name of the work, the work here, and the work in the child."""
    if path.suffix.lower() not in RAW_SUFFIXES:
        data = path.read_bytes()
        return [("decode", lambda: decode_tiff(data, MAX_PIXELS), lambda: decode_tiff_isolated(path, MAX_PIXELS))]
    return [
        ("size", lambda: raw_size(path), lambda: raw_size_isolated(path)),
        ("read", lambda: read_raw(path), lambda: read_raw_isolated(path)),
        ("render", lambda: render_srgb(path), lambda: render_srgb_isolated(path)),
    ]


def main() -> None:
    """Print the table."""
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "made_24_megapixels.tif"
        pixels = np.cumsum(np.random.default_rng(0).integers(0, 9, (4000, 6000, 3), dtype=np.uint16), axis=0) & 65535
        write_image(made, Image(pixels=pixels.astype(np.uint16)))
        real = sorted(path for path in SHARED.iterdir() if path.suffix in RAW_SUFFIXES) if SHARED.is_dir() else []
        DECODER.close()
        start = time.perf_counter()
        if real:
            raw_size_isolated(real[0])
            print(f"Start of the child with its first file: {1000 * (time.perf_counter() - start):.0f} ms\n")
        print("| file | work | here, ms | in the child, ms | more |\n|---|---|---|---|---|")
        for path in [Path(name) for name in sys.argv[1:]] or [*real, made]:
            for name, here, there in rows(path):
                one, other = milliseconds(here), milliseconds(there)
                more = f"{other - one:+.1f} ms, {other / one - 1:+.0%}"
                print(f"| {path.name} | {name} | {one:.1f} | {other:.1f} | {more} |")


if __name__ == "__main__":
    main()
