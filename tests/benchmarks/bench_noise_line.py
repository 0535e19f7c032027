"""How well `noise.line_fit.fit_line` finds shot and read noise: oracle, own scenes, photographs, clipping, raw files.

    OMP_NUM_THREADS=1 python tests/benchmarks/bench_noise_line.py [--seeds 40]

Prints the tables of docs/results/noise-measurement.md. "told": the fit gives a number; "holds": the truth lies in the
95 % interval, told or not.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from scipy.ndimage import zoom
from skimage import data

from noise.line_fit import fit_line
from noise.noise_line import NoiseLine
from noise.raw_noise import measure_raw_file
from raw.camera import sample_camera
from raw.files import RAW_SUFFIXES, read_raw
from raw.isp import unprocess

SHARED = Path(__file__).parents[3] / "shared"
LEVELS = ((1e-4, 4e-7), (1e-3, 3e-6), (1e-3, 5e-5), (1e-2, 1.5e-4), (1e-2, 1e-3))
Scenes = dict[str, np.ndarray]


def synthetic() -> Scenes:
    y, x = np.mgrid[:320, :480]
    stairs = np.repeat(np.repeat(np.linspace(0.02, 0.92, 16).reshape(4, 4), 80, 0), 120, 1)
    waves = 0.45 + 0.3 * np.sin(x / 9) * np.cos(y / 13) + 0.15 * np.sin((x + y) / 31)
    return {
        "stairs": stairs,
        "ramp": 0.02 + 0.9 * x / 480 + 0 * y,
        "dark ramp": 0.002 + 0.05 * (x + y) / 800,
        "narrow, 0.25 to 0.35": 0.3 + 0.05 * np.sin(x / 90) * np.cos(y / 70),
        "waves": waves,
    }


def photographs() -> Scenes:
    """Green and red planes of unprocessed photographs; some enlarged, which removes their own noise and texture."""
    images = {name: getattr(data, name)()[..., :3] for name in ("astronaut", "chelsea", "coffee", "rocket", "retina")}
    folder = SHARED / "data" / "dev" / "kodak24"
    for path in sorted(folder.glob("*.png"))[1::6]:
        from skimage import io

        images[path.stem] = io.imread(path)[..., :3]
    scenes = {}
    for index, (name, image) in enumerate(images.items()):
        height, width = (length // 2 * 2 for length in image.shape[:2])
        pixels = torch.from_numpy(np.ascontiguousarray(image[:height, :width])).permute(2, 0, 1)
        planes = unprocess(pixels, sample_camera(torch.Generator().manual_seed(index))).numpy()
        scenes[name] = planes[1]
        scenes[f"{name}, enlarged"] = np.clip(zoom(planes[index % 2 * 3], 2, order=3), 0, 1)
    return scenes


def spoilt(clean: np.ndarray, shot: float, read: float, seed: int) -> np.ndarray:
    return clean + np.sqrt(shot * clean + read) * np.random.default_rng(seed).standard_normal(clean.shape)


def summary(lines: list[NoiseLine], shot: float, read: float) -> str:
    def ratios(name: str, truth: float) -> tuple[np.ndarray, float]:
        told = [getattr(line, name) / truth for line in lines if getattr(line, name) is not None]
        ends = [getattr(line, f"{name}_interval") for line in lines]
        return np.array(told), float(np.mean([low <= truth <= high for low, high in ends]))

    cells = []
    for name, truth, near in (("shot", shot, 0.05), ("read", read, 0.2)):
        told, holds = ratios(name, truth)
        middle = " ".join(f"{value:.2f}" for value in np.quantile(told, (0.1, 0.5, 0.9))) if len(told) else ""
        cells += [f"{len(told)} of {len(lines)}", middle, str(int(np.sum(np.abs(told - 1) < near))), f"{holds:.2f}"]
    return " | ".join(cells)


def table(title: str, rows: Iterator[tuple[str, list[NoiseLine], float, float]]) -> None:
    print(f"\n### {title}\n")
    print("| | shot told | ratio 10 50 90 % | in 5 % | holds | read told | ratio 10 50 90 % | in 20 % | holds |")
    print("| --- " * 9 + "|")
    for name, lines, shot, read in rows:
        print(f"| {name} | {summary(lines, shot, read)} |", flush=True)


def over(
    scenes: Scenes,
    seeds: int,
    after: Callable[[np.ndarray], np.ndarray],
    clip: tuple[float, float] | None,
    extra: float,
) -> Iterator[tuple[str, list[NoiseLine], float, float]]:
    for shot, read in LEVELS:
        lines = [
            fit_line(after(spoilt(clean, shot, read, 1000 * seed + index)), clip=clip)
            for seed in range(seeds)
            for index, clean in enumerate(scenes.values())
        ]
        yield f"shot {shot:g}, read {read:g}", lines, shot, read + extra


def by_scene(scenes: Scenes, seeds: int) -> Iterator[tuple[str, list[NoiseLine], float, float]]:
    for index, (name, clean) in enumerate(scenes.items()):
        for shot, read in (LEVELS[1], LEVELS[3]):
            lines = [fit_line(spoilt(clean, shot, read, 1000 * seed + index), clip=None) for seed in range(seeds)]
            yield f"{name}, {shot:g}", lines, shot, read


def oracle() -> None:
    path = SHARED / "oracles" / "noise_estimation.npz"
    if not path.exists():
        return
    arrays = np.load(path)
    print("\n### noise_estimation.npz, in units of the truth\n")
    print("| array | shot | interval | read | interval |\n| --- | --- | --- | --- | --- |")
    for name, index in (("stairs_0", 0), ("stairs_1", 1), ("stairs_2", 2), ("texture_noisy", 1)):
        line, cells = fit_line(arrays[name], clip=None), []
        for key, truth in (("shot", arrays["S"][index]), ("read", arrays["O"][index])):
            value, (low, high) = getattr(line, key), getattr(line, f"{key}_interval")
            cells += [
                "not told" if value is None else f"{value / truth:.3f}",
                f"{low / truth:.2f} to {high / truth:.2f}",
            ]
        print(f"| {name} | {' | '.join(cells)} |")


def speed() -> None:
    print("\n### Seconds of CPU time per megapixel of a plane, one thread\n")
    for side in (256, 512, 1024, 2048):
        y, x = np.mgrid[:side, :side]
        plane = spoilt(0.05 + 0.8 * (x + y) / (2 * side), 1e-3, 1e-5, 0).astype(np.float32)
        start = time.process_time()
        fit_line(plane)
        print(f"- {side}x{side}: {(time.process_time() - start) / plane.size * 1e6:.2f}")


def raws() -> None:
    folder = SHARED / "data" / "raw"
    print("\n### Raw files\n")
    print("| file | channel | shot | read | prnu % | note |\n| --- | --- | --- | --- | --- | --- |")
    for path in sorted(folder.glob("*")):
        if path.suffix not in RAW_SUFFIXES:
            continue
        start = time.process_time()
        found = measure_raw_file(read_raw(path))
        seconds = time.process_time() - start
        if found is None:
            continue
        for name, line in (*zip(found.names, found.lines, strict=True), ("all", found.pooled)):
            cells = []
            for key in ("shot", "read"):
                value, (low, high) = getattr(line, key), getattr(line, f"{key}_interval")
                cells.append(f"{'not told' if value is None else f'{value:.3g}'} ({low:.3g} to {high:.3g})")
            print(f"| {path.name} | {name} | {' | '.join(cells)} | {100 * line.prnu:.2f} | {line.note} |")
        if found.border:
            read = " ".join(f"{value:.3g}" for value in found.border.read)
            print(f"| | masked border | | {read} | | row {found.border.row:.2g}, column {found.border.column:.2g} |")
        print(f"| | | | | | {seconds:.1f} s; {'; '.join(found.notes)} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=40)
    seeds = parser.parse_args().seeds
    torch.set_num_threads(1)
    oracle()
    scenes, photos = synthetic(), photographs()
    table(f"Drawn scenes, {seeds} seeds each", by_scene(scenes, seeds))
    rounds = max(1, seeds // 20)
    table(f"{len(photos)} planes of photographs", over(photos, rounds, lambda noisy: noisy, None, 0.0))
    table("The same, clipped at 0 and 1", over(photos, rounds, lambda noisy: noisy.clip(0, 1), (0.0, 1.0), 0.0))
    step = 1 / 1023
    rounded = over(photos, rounds, lambda noisy: np.round(noisy / step) * step, None, step**2 / 12)
    table("The same, rounded to 10 bits (its variance counts as read noise)", rounded)
    speed()
    raws()


if __name__ == "__main__":
    main()
