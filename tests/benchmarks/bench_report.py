"""How long a full report takes and how large it gets: a hundred pictures of 512x512, denoised before the clock starts.

    .venv/bin/python tests/benchmarks/bench_report.py
    .venv/bin/python tests/benchmarks/bench_report.py --photos FOLDER --sigma 25

Without a folder the pictures are tiles of scikit-image's photographs. Everything that ``unveil evaluate --report``
does after the denoising is counted: metrics, blind measures, statistics, residual panels, the contact sheet, the page.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parents[2]))

from pipeline.evaluation.blind import blind_measures, residual_panel
from pipeline.evaluation.metrics import measure
from pipeline.evaluation.report import write_report
from pipeline.evaluation.report_data import ReportData
from pipeline.evaluation.windows import choose_window, local_detail
from tests.report_data import full_report, image_row, one_set, pair_of, psnr

Pixels = NDArray[np.uint8]
SIDE = 512


def main() -> None:
    """Print seconds and megabytes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, help="clean pictures of at least 64x64")
    parser.add_argument("--sigma", type=float, default=15.0, help="of the noise, in 1/255")
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--out", type=Path, help="keep the report here")
    options = parser.parse_args()
    photos = _photos(options.photos)
    cleans = [_square(photos[index % len(photos)], index // len(photos)) for index in range(options.count)]
    rng = np.random.default_rng(0)
    triples = [(*pair_of(clean, options.sigma, rng), clean) for clean in cleans]
    names = [f"picture {index:03d}" for index in range(options.count)]

    start = time.perf_counter()
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        sides = list(pool.map(_measured, triples))
    panel = residual_panel(*sides[0][:2])
    rows, tiles = [], []
    for name, (noisy, denoised, clean), (_, _, truth) in zip(names, triples, sides, strict=True):
        window = choose_window(truth, local_detail(truth), "typical")
        scores = {"noisy": psnr(noisy, clean), "nlm": psnr(denoised, clean) - 0.3, "masked": psnr(denoised, clean)}
        rows.append(image_row(name, scores))
        crops = {"noisy": noisy[window], "denoised": denoised[window], "clean": clean[window]}
        tiles.append({"name": name, "set": "bench", **crops, "psnr_noisy": 20.0, "psnr_denoised": 30.0})
    measured = time.perf_counter() - start

    content = full_report([(name, "bench", tile["clean"]) for name, tile in zip(names, tiles, strict=True)])
    content["sheet"] = tiles
    content["pictures"][0]["residual"] = panel
    content["evaluation"]["sets"][0] = one_set(rows, name="bench")
    with tempfile.TemporaryDirectory() as folder:
        path = (options.out or Path(folder)) / "report.html"
        start = time.perf_counter()
        write_report(path, ReportData(**content))
        written = time.perf_counter() - start
        result = {
            "pictures": len(cleans),
            "sigma": options.sigma,
            "seconds_measuring": round(measured, 1),
            "seconds_writing": round(written, 1),
            "seconds": round(measured + written, 1),
            "megabytes": round(path.stat().st_size / 1e6, 2),
            "json_megabytes": round(path.with_suffix(".json").stat().st_size / 1e6, 2),
        }
    print(json.dumps(result))


def _measured(triple: tuple[Pixels, Pixels, Pixels]) -> list[NDArray[np.float32]]:
    noisy, denoised, clean = (part.astype(np.float32) / 255 for part in triple)
    for image in (noisy, denoised):
        measure(image, clean)
    blind_measures(noisy, denoised)
    return [noisy, denoised, clean]


def _photos(folder: Path | None) -> list[Pixels]:
    from PIL import Image

    if folder is None:
        import skimage.data

        return [skimage.data.astronaut(), skimage.data.chelsea(), skimage.data.coffee(), skimage.data.rocket()]
    return [np.asarray(Image.open(path).convert("RGB")) for path in sorted(folder.rglob("*.*"))]


def _square(photo: Pixels, turn: int) -> Pixels:
    """512x512 of a photo, mirrored where it is smaller, and turned so that no two are alike."""
    padded = np.pad(photo, [(0, max(SIDE - length, 0)) for length in photo.shape[:2]] + [(0, 0)], mode="symmetric")
    shift = 37 * turn
    return np.ascontiguousarray(np.rot90(np.roll(padded, (shift, shift), (0, 1))[:SIDE, :SIDE], turn % 4))


if __name__ == "__main__":
    main()
