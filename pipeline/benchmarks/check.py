"""Whether a benchmark's server would take what somebody has: a CSV, a MATLAB file or a bundle, made by anything.

What the servers want is what their publishers say and what accepted submissions look like; a server may want more.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from pipeline.benchmarks.dnd import BOXES, IMAGES, Dnd, open_dnd, read_crops
from pipeline.benchmarks.dnd_bundle import check_bundle_file, is_raw
from pipeline.benchmarks.kaggle import first_size, read_csv
from pipeline.benchmarks.sidd import PUBLISHED, open_benchmark
from pipeline.benchmarks.verdict import Comparison, Verdict, few
from pipeline.data.blocks import Blocks
from pipeline.data.mat import Variable, read_variable, variables
from pipeline.data.paths import shown
from pipeline.errors import RunError, UserError

CSV_NAMES: Final = ("SubmitSrgb.csv", "SubmitRaw.csv")
MAT_NAMES: Final = ("SubmitSrgb.mat", "SubmitRaw.mat")
_BUNDLE: Final = re.compile(r"\d{4}\.mat")
_BOX: Final = 512


def check_submission(
    path: Path, data: Path | None = None, *, on_progress: Callable[[], None] | None = None
) -> list[Verdict]:
    """Read whatever submissions lie at ``path``, and say of each whether its server would take it.

    Args:
        path: a folder, or one CSV or MATLAB file of SIDD.
        data: the noisy data of the benchmark (``BenchmarkNoisyBlocksSrgb.mat`` or its folder, or the folder of DND);
            with it sizes and the order of the blocks are compared too.
        on_progress: called after each block or file.

    Raises:
        UserError: nothing there that is a submission, or ``data`` is not that of the benchmark.
    """
    step = on_progress or (lambda: None)
    if path.is_file():
        files = [path]
    elif path.is_dir():
        files = [path / name for name in (*CSV_NAMES, *MAT_NAMES) if (path / name).is_file()]
    else:
        raise UserError(f"{shown(path)}: expected a submission, found nothing there")
    is_bundle = path.is_dir() and any(_BUNDLE.fullmatch(each.name) for each in path.iterdir())
    if not files and not is_bundle:
        raise UserError(
            f"{shown(path)}: expected {', '.join((*CSV_NAMES, *MAT_NAMES))} or 0001.mat to {IMAGES:04d}.mat, found none"
        )
    dnd = open_dnd(data) if data is not None and is_bundle and (not files or (data / "info.mat").is_file()) else None
    blocks = open_benchmark(data) if data is not None and files and dnd is None else None
    verdicts = [
        check_sidd_csv(file, blocks, step) if file.suffix.lower() == ".csv" else check_sidd_mat(file, blocks, step)
        for file in files
    ]
    return [*verdicts, *([check_dnd(path, dnd, step)] if is_bundle else [])]


def check_sidd_csv(
    path: Path, noisy: Blocks | None, step: Callable[[], None], published: tuple[int, ...] = PUBLISHED
) -> Verdict:
    """Check a CSV for Kaggle; the size of its first block tells sRGB from raw."""
    images, each, height, width = published[:4]
    count, pixels = images * each, height * width
    size = first_size(path)
    raw = size != 3 * pixels and ("raw" in path.name.lower() or size in (4 * pixels, 8 * pixels))
    dtype = np.dtype(np.uint8) if not raw else np.dtype(np.float64 if size == 8 * pixels else np.float32)
    shape = (height, width) if raw else (height, width, 3)
    comparison = Comparison(None if raw else noisy)
    problems = []
    try:
        for index, data in enumerate(read_csv(path, count, math.prod(shape) * dtype.itemsize)):
            block = np.frombuffer(data, dtype).reshape(shape)
            problems += _of_values(block, f"block {index}")
            comparison.add(index, block)
            step()
    except RunError as error:
        problems.append(str(error).removeprefix(f"{shown(path)}: "))
    track = "raw" if raw else "srgb"
    return Verdict(
        path=path,
        kind=f"SIDD {'raw' if raw else 'sRGB'}, CSV for Kaggle",
        problems=few(problems),
        warnings=comparison.told(),
        upload=f"kaggle.com/competitions/sidd-benchmark-{track}-psnr and -ssim take the same file",
    )


def check_sidd_mat(
    path: Path, noisy: Blocks | None, step: Callable[[], None], published: tuple[int, ...] = PUBLISHED
) -> Verdict:
    """Check a MATLAB file for the server that was at York: one array of all blocks, or a cell for each."""
    raw, problems = "raw" in path.name.lower(), []
    comparison = Comparison(None)
    try:
        known = variables(path)
        raw = "DenoisedBlocksRaw" in known or ("DenoisedBlocksSrgb" not in known and raw)
        track, shape = ("Raw", published[:4]) if raw else ("Srgb", published)
        comparison = Comparison(None if raw else noisy)
        for index, block in _mat_blocks(path, f"DenoisedBlocks{track}", known, shape):
            problems += _of_form(block, shape[2:], f"block {index}") or _of_values(block, f"block {index}")
            comparison.add(index, block)
            step()
        problems += _of_time(path, f"TimeMP{track}", known)
        if "OptionalData" not in known:
            problems.append("expected OptionalData (MethodName, Authors, PaperTitle, Venue), found none")
    except (RunError, UserError) as error:
        problems.append(str(error).removeprefix(f"{shown(path)}: "))
    return Verdict(
        path=path,
        kind=f"SIDD {'raw' if raw else 'sRGB'}, MATLAB file for the old server",
        problems=few(problems),
        warnings=comparison.told(),
        upload="the server at York is closed: for whoever runs one",
    )


def _mat_blocks(
    path: Path, name: str, known: Mapping[str, Variable], shape: tuple[int, ...]
) -> Iterator[tuple[int, NDArray[Any]]]:
    """Yield every block of one array of numbers, or of a cell array."""
    if name not in known:
        raise RunError(f"expected the variable {name}, found {', '.join(sorted(known)) or 'none'}")
    if known[name].shape not in (shape, shape[:2]):
        found, expected = ("x".join(map(str, each)) for each in (known[name].shape, shape))
        raise RunError(f"expected {name} as {expected}, found {found}")
    array = read_variable(path, name)
    for index in range(math.prod(shape[:2])):
        yield index, np.asarray(array[divmod(index, shape[1])])


def _of_form(block: NDArray[Any], shape: tuple[int, ...], name: str) -> list[str]:
    right = block.dtype == np.uint8 if len(shape) == 3 else block.dtype.kind == "f"
    if block.shape == shape and right:
        return []
    expected = "uint8" if len(shape) == 3 else "floats"
    return [f"{name}: expected {shape} {expected}, found {block.shape} {block.dtype}"]


def check_dnd(folder: Path, dnd: Dnd | None, step: Callable[[], None]) -> Verdict:
    """Check a bundle for DND: fifty files of twenty crops, all of one track."""
    names = [f"{index:04d}.mat" for index in range(1, IMAGES + 1)]
    there = [index for index, name in enumerate(names) if (folder / name).is_file()]
    problems = []
    if len(there) < IMAGES:
        missing = [name for index, name in enumerate(names) if index not in there]
        problems.append(f"expected 0001.mat to {names[-1]}, found {len(missing)} missing, the first {missing[0]}")
    if extra := sorted(
        each.name for each in folder.iterdir() if _BUNDLE.fullmatch(each.name) and each.name not in names
    ):
        problems.append(f"expected 0001.mat to {names[-1]} alone, found {shown(extra[0])}")
    square = np.tile(np.array([0, 0, _BOX, _BOX], np.int64), (BOXES, 1))
    comparison, raw = Comparison(None), None
    for index in there:
        try:
            raw = is_raw(folder / names[index]) if raw is None else raw
            boxes = square if dnd is None else dnd.boxes[index]
            crops = check_bundle_file(folder / names[index], boxes, raw=raw)
            if dnd is not None and not raw:
                for crop, noisy in zip(crops, read_crops(dnd.images[index].path, boxes), strict=True):
                    comparison.compare(f"{names[index]}", crop, noisy)
            else:
                comparison.brightest = max(comparison.brightest, *(float(crop.max()) for crop in crops))
        except RunError as error:
            problems.append(str(error).removeprefix(f"{shown(folder / names[index])}: ").partition("; make it")[0])
            problems[-1] = f"{names[index]}: {problems[-1]}"
        step()
    return Verdict(
        path=folder,
        kind=f"DND {'raw' if raw else 'sRGB'}, bundle",
        problems=few(problems),
        warnings=comparison.told(),
        upload="noise.visinf.tu-darmstadt.de (with an account): all fifty files",
    )


def made_by(folder: Path) -> dict[str, Any] | None:
    """Return what ``submission.json`` says of a submission that unveil wrote; None without one."""
    from pipeline.benchmarks.submission import SUBMISSION_NAME

    try:
        value = json.loads((folder / SUBMISSION_NAME).read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def _of_values(block: NDArray[Any], name: str) -> list[str]:
    if block.dtype.kind != "f":
        return []
    if not np.isfinite(block).all():
        return [f"{name}: expected finite values, found NaN or infinite ones"]
    low, high = float(block.min()), float(block.max())
    return [] if low >= 0 and high <= 1 else [f"{name}: expected values in [0, 1], found {low:.4g} to {high:.4g}"]


def _of_time(path: Path, name: str, known: Iterable[str]) -> list[str]:
    if name not in known:
        return [f"expected the variable {name} (seconds a megapixel), found none"]
    value = np.asarray(read_variable(path, name))
    right = value.size == 1 and value.dtype.kind in "iuf" and 0 < float(value.item()) < math.inf
    return [] if right else [f"expected {name} as one positive number, found {value.ravel()[:3].tolist()}"]
