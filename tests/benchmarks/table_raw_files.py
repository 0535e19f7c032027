"""What is read of each raw file in a folder, and how far our results are from LibRaw's. Run:

.venv/bin/python tests/benchmarks/table_raw_files.py ../shared/data/raw
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import rawpy

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from raw.develop import develop, half_linear
from raw.dng import dng_like
from raw.files import RAW_SUFFIXES, raw_size, read_raw, render_srgb
from raw.raw_file import RawFile


def described(path: Path, raw: RawFile) -> str:
    black = sorted(set(raw.black_levels))
    border = "none" if raw.masked is None else f"{raw.masked.mean():.2f} +- {raw.masked.std():.1f}"
    shape = f"{raw.width}x{raw.height}"
    return (
        f"| {path.name} | {raw.model or raw.make} | {raw.kind} {raw.pattern or ''} | {shape} | {raw.bits} |"
        f" {' '.join(f'{level:g}' for level in black)} | {border} | {raw.white_level} | {raw.saturation} |"
        f" {' '.join(f'{gain:.3f}' for gain in raw.white_balance)} | {raw.iso or '-'} |"
        f" {'yes' if raw.noise_profile else '-'} |"
    )


def compared(path: Path, raw: RawFile, folder: Path) -> str:
    start = time.perf_counter()
    read_raw(path)
    reading = time.perf_counter() - start
    held = raw.mosaic if raw.mosaic is not None else raw.linear
    copy = folder / "copy.dng"
    dng_like(raw, held, copy)
    again = read_raw(copy)
    same = np.array_equal(held, again.mosaic if again.mosaic is not None else again.linear)
    half = "-"
    if raw.kind == "bayer":
        with rawpy.imread(str(path)) as file:
            theirs = file.postprocess(
                half_size=True,
                use_camera_wb=raw.white_balance != raw.daylight_balance,
                no_auto_bright=True,
                gamma=(1, 1),
                output_bps=16,
                adjust_maximum_thr=0.0,
                user_flip=0,
            )
        difference = np.abs(half_linear(raw) - theirs / 65535)
        half = f"{difference.max():.1e} (mean {difference.mean():.1e})"
    start = time.perf_counter()
    image = develop(raw)
    developing = time.perf_counter() - start
    whole = np.abs(image - render_srgb(path) / 65535)
    assert raw_size(path) == image.shape[:2]
    return (
        f"| {path.name} | {'yes' if same else 'NO'} | {half} | {np.median(whole):.1e} | {whole.mean():.1e} |"
        f" {reading * 1e3:.0f} ms | {developing:.2f} s |"
    )


def main() -> None:
    paths = sorted(path for path in Path(sys.argv[1]).iterdir() if path.suffix.lower() in RAW_SUFFIXES)
    files = [(path, read_raw(path)) for path in paths]
    print("| file | camera | kind | size | bits | black | border | white | clips at | balance | ISO | noise profile |")
    print("|---" * 12 + "|")
    for path, raw in files:
        print(described(path, raw))
    print()
    print("| file | DNG to the bit | half size - LibRaw, max | develop - LibRaw, median | mean | read | develop |")
    print("|---" * 7 + "|")
    with tempfile.TemporaryDirectory() as folder:
        for path, raw in files:
            print(compared(path, raw, Path(folder)))


if __name__ == "__main__":
    main()
