"""A folder of small files, a twentieth of them broken in 20 ways, denoised with interruptions; checks and memory.

    python tests/benchmarks/batch_run.py --count 10000

Runs `unveil denoise` (a tiny network) once without interruption, and once more into another folder, ended three times
at random moments by SIGINT, SIGTERM and SIGKILL and finished with --skip-existing. Then: all good files done, all bad
ones named, both folders equal to the byte, nothing else in them, and the memory of the long run over time.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from PIL import Image

from models import InferenceSpec, UNetSpec, build, save
from pipeline.data.folders import scan
from pipeline.inference.manifest import MANIFEST_NAME

ROOT = Path(__file__).resolve().parents[2]
SIGNALS = (signal.SIGINT, signal.SIGKILL, signal.SIGTERM)


def whole_png(seed: int, side: int = 32) -> bytes:
    import io

    pixels = np.random.default_rng(seed).integers(0, 255, (side, side, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def png_with_header(width: int, height: int, depth: int = 8, colour: int = 2) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def converted(kind: str, seed: int) -> bytes:
    import io

    buffer = io.BytesIO()
    Image.open(io.BytesIO(whole_png(seed))).save(buffer, kind)
    return buffer.getvalue()


def changed(data: bytes, place: int, value: bytes) -> bytes:
    return data[:place] + value + data[place + len(value) :]


# (suffix, bytes for a seed)
BROKEN: tuple[tuple[str, Callable[[int], bytes]], ...] = (
    (".png", lambda _: b""),
    (".png", lambda seed: whole_png(seed)[: len(whole_png(seed)) // 2]),
    (".png", lambda seed: whole_png(seed)[:8]),
    (".png", lambda seed: changed(whole_png(seed), 60, b"\xff" * 20)),
    (".png", lambda seed: changed(whole_png(seed), 29, b"\0\0\0\0")),
    (".png", lambda _: png_with_header(0, 0)),
    (".png", lambda _: png_with_header(60_000, 60_000)),
    (".png", lambda _: png_with_header(32, 32)),
    (".png", lambda _: png_with_header(32, 32, depth=3)),
    (".png", lambda _: b"no picture at all, but text"),
    (".png", lambda seed: random.Random(seed).randbytes(500)),
    (".png", lambda _: b"<html><body>404</body></html>"),
    (".jpg", lambda seed: converted("JPEG", seed)[:300]),
    (".jpg", lambda _: b"\xff\xd8\xff" + b"\0" * 200),
    (".jpg", lambda seed: changed(converted("JPEG", seed), 2, b"\0" * 150)),
    (".tif", lambda seed: converted("TIFF", seed)[:200]),
    (".tif", lambda _: b"II*\0\x08\0\0\0" + b"\xff" * 60),
    (".bmp", lambda seed: converted("BMP", seed)[:40]),
    (".webp", lambda seed: converted("WEBP", seed)[:60]),
    (".dng", lambda seed: b"II*\0" + random.Random(seed).randbytes(300)),
)


def make_folder(folder: Path, count: int) -> int:
    """Write ``count`` files, every twentieth of them broken; return how many are."""
    broken = 0
    for index in range(count):
        place = folder / f"{index % 10}" / f"p{index:05}"
        place.parent.mkdir(parents=True, exist_ok=True)
        if index % 20 == 7:
            suffix, content = BROKEN[broken % len(BROKEN)]
            place.with_suffix(suffix).write_bytes(content(index))
            broken += 1
        else:
            place.with_suffix(".png").write_bytes(whole_png(index))
    return broken


def make_model(folder: Path) -> None:
    spec = UNetSpec(channels=3, width=4, depth=1)
    save(folder, build(spec, seed=0), spec=spec, inference=InferenceSpec(), card={})


def start(source: Path, model: Path, out: Path, *options: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "pipeline", "denoise", source, "--model", model, "--out", out, "--json", *options]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
    return subprocess.Popen(list(map(str, command)), cwd=ROOT, **pipes)


def watched(process: subprocess.Popen[str], out: Path, every: float) -> tuple[dict[str, Any], list[tuple[int, float]]]:
    """Wait for a run; return its JSON and (files in its manifest, MB of memory) over time."""
    found: list[tuple[int, float]] = []

    def look() -> None:
        own = psutil.Process(process.pid)
        while process.poll() is None:
            try:
                done = sum(1 for _ in (out / MANIFEST_NAME).open("rb")) if (out / MANIFEST_NAME).exists() else 0
                if rss := own.memory_info().rss:  # 0 when it has just ended
                    found.append((done, rss / 1e6))
            except psutil.Error:
                return
            time.sleep(every)

    thread = threading.Thread(target=look)
    thread.start()
    text = process.communicate()[0]
    thread.join()
    return json.loads(text), found


def contents(out: Path) -> dict[str, bytes]:
    paths = (path for path in out.rglob("*") if path.is_file() and path.name != MANIFEST_NAME)
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in paths}


def written(out: Path) -> int:
    return sum(not path.name.startswith(".") for path in out.glob("*/*"))


def interrupted(
    source: Path, model: Path, out: Path, seconds: float, workers: str, signals: Sequence[signal.Signals]
) -> list[tuple[str, int]]:
    """End a run at random moments; return how, and how many files were there then."""
    generator = random.Random(1)
    ends = []
    for number in signals:
        process = start(source, model, out, "--skip-existing", "--workers", workers)
        before = written(out)
        limit = time.monotonic() + 120
        while written(out) <= before and process.poll() is None and time.monotonic() < limit:
            time.sleep(0.02)
        time.sleep(generator.uniform(0.0, seconds / 4))
        process.send_signal(number)
        process.communicate()
        ends.append((number.name, written(out)))
    return ends


def measure(
    folder: Path, count: int, workers: str = "0", signals: Sequence[signal.Signals] = SIGNALS
) -> dict[str, Any]:
    """Do all of it in ``folder`` and return what was found."""
    broken = make_folder(folder / "in", count)
    make_model(folder / "model")
    begun = time.monotonic()
    process = start(folder / "in", folder / "model", folder / "whole", "--workers", workers)
    result, memory = watched(process, folder / "whole", max(0.1, count / 20_000))
    seconds = time.monotonic() - begun
    ends = interrupted(folder / "in", folder / "model", folder / "parts", seconds, workers, signals)
    last, _ = watched(
        start(folder / "in", folder / "model", folder / "parts", "--skip-existing", "--workers", workers),
        folder / "parts",
        0.5,
    )
    whole, parts = contents(folder / "whole"), contents(folder / "parts")
    bad = {file["source"] for file in result["files"] if file["status"] == "failed"}
    expected = {str(file.path) for file in scan([folder / "in"]) if int(file.path.stem[1:]) % 20 == 7}
    return {
        "count": count,
        "broken": broken,
        "seconds": seconds,
        "code": process.returncode,
        "ok": result["ok"],
        "failed": result["failed"],
        "bad_named": bad == expected,
        "ends": ends,
        "last": {key: last[key] for key in ("ok", "failed", "skipped")},
        "equal": whole == parts,
        "only_pictures": len(whole) == count - broken,
        "memory": memory,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--workers", default="0")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = measure(Path(folder), options.count, options.workers)
    memory = found.pop("memory")
    print(json.dumps(found, indent=1))
    print("files in the manifest, MB of the process")
    marks = [options.count * part // 10 for part in range(1, 11)]
    for mark in marks:
        near = [megabytes for files, megabytes in memory if mark - options.count // 10 < files <= mark + 1]
        if near:
            print(f"{mark:6d}  {max(near):.0f}")


if __name__ == "__main__":
    main()
