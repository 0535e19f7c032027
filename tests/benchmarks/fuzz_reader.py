"""Read thousands of damaged pictures: no crash, no hang, no flood of memory, and one clear line for each refusal.

    python -m tests.benchmarks.fuzz_reader [--count 2000] [--seed 0] [--out docs/results/fuzz.md]

A process of its own reads the files one after another, so that a crash of it is seen and counted.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import resource
import select
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tests.benchmarks.fuzz_files import Seed, damaged, seeds

HANG_SECONDS = 10.0
GIVEN_UP_SECONDS = 30.0
MEMORY_CAP = 2**29
"""Of either process, at its highest; the whole files take 0.15 GiB."""

SHARES = {"raw": 0.15, "dng": 0.25, "tiff": 0.25, "png": 0.1, "jpeg": 0.12, "bmp": 0.06, "webp": 0.07}
BEGIN, END = "<!-- made by fuzz_reader -->", "<!-- end -->"
CONTAINED = ("the decoder crashed", "the decoder took longer", "the decoder needed more memory")

_INTERNALS = re.compile(
    r"Traceback|\b0x(?=\d*[a-f])[0-9a-f]{6,}|<class|<[a-z_.]+ |object at|NoneType|\bnumpy\b|\b[a-z]+\.[a-z_]+\(|"
    r"\b[A-Z]\w+(Error|Exception)\b|\bndarray\b|\bself\b|\bargument\b|\bkeyword\b|subscript|\bunpack\b|attribute"
)


class Outcome(NamedTuple):
    """What reading one damaged file came to."""

    kind: str
    seed: str
    damage: str
    result: str
    seconds: float
    detail: str = ""


def fuzz(count: int, seed: int, *, real: bool = True, keep: Path | None = None) -> tuple[list[Outcome], dict[str, int]]:
    """Read ``count`` damaged files.

    Args:
        count: how many.
        seed: the same one gives the same files.
        real: damage camera files of ../shared too.
        keep: folder that files with a bad outcome are copied to.

    Returns:
        The outcomes, and the highest memory of the reading process and of its decoder in bytes.
    """
    whole = seeds(real=real)
    outcomes, peaks = [], Counter[str]()
    with tempfile.TemporaryDirectory() as folder:
        reader = Reader()
        for index in range(count):
            generator = np.random.default_rng([seed, index])
            chosen = _chosen(generator, whole)
            damage, data = damaged(generator, chosen, whole)
            path = Path(folder) / f"{index}{_suffix(chosen, generator)}"
            path.write_bytes(data)
            result, seconds, detail, memory = reader.read(path)
            outcomes.append(Outcome(chosen.kind, chosen.name, damage, result, seconds, detail))
            for name, bytes_ in memory.items():
                peaks[name] = max(peaks[name], bytes_)
            if keep and result not in ("picture", "refused"):
                (keep / path.name).write_bytes(data)
            path.unlink()
        reader.close()
    return outcomes, dict(peaks)


class Reader:
    """The process that reads; replaced after a crash or a hang."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """Process id; None before the first file."""
        return self._process.pid if self._process else None

    def read(self, path: Path) -> tuple[str, float, str, dict[str, int]]:
        """Return the result, the seconds, the message, and the memory of both processes."""
        if self._process is None:
            command = [sys.executable, "-m", "tests.benchmarks.fuzz_reader", "--worker"]
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
            )
            self._answer(120)
        process = self._process
        start = time.perf_counter()
        process.stdin.write(f"{path}\n".encode())
        process.stdin.flush()
        line = self._answer(GIVEN_UP_SECONDS)
        seconds = time.perf_counter() - start
        if line is None:
            self.close()
            return "hang", seconds, f"no answer in {GIVEN_UP_SECONDS:g} s", {}
        if not line:
            code = process.wait()
            self._process = None
            return "crash", seconds, f"exit code {code}", {}
        answer = json.loads(line)
        memory = answer["memory"]
        if seconds > HANG_SECONDS:
            return "hang", seconds, answer["detail"], memory
        if max(memory.values()) > MEMORY_CAP:
            return "memory", seconds, f"{max(memory.values()) / 2**20:.0f} MiB; {answer['detail']}", memory
        return answer["result"], seconds, answer["detail"], memory

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _answer(self, seconds: float) -> bytes | None:
        if not select.select([self._process.stdout], [], [], seconds)[0]:
            return None
        return self._process.stdout.readline()


def examine(path: Path) -> tuple[str, str]:
    """Read one file in every way; return picture, refused or ugly, with the message."""
    from pipeline.data.images import ImageError, read_header, read_image
    from raw.files import RAW_SUFFIXES
    from raw.isolated import read_raw_isolated

    header = image = None
    messages = []
    try:
        header = read_header(path)
    except ImageError as error:
        messages.append(str(error))
    try:
        image = read_image(path)
    except ImageError as error:
        messages.append(str(error))
    if path.suffix in RAW_SUFFIXES:
        try:
            read_raw_isolated(path)
        except ValueError as error:
            messages.append(str(error))
    for message in messages:
        if "\n" in message or not message.startswith(f"{path}: ") or _INTERNALS.search(message[len(str(path)) :]):
            return "ugly", message
    if image is None:
        return "refused", messages[-1]
    if header is None:
        return "ugly", f"read, but {messages[0]}"
    claimed = (header.height, header.width, header.channels, header.bits // 8)
    if claimed != (*image.pixels.shape, image.pixels.dtype.itemsize):
        return "ugly", f"{claimed} claimed, {image.pixels.shape} {image.pixels.dtype} read"
    return "picture", ""


def _work() -> None:
    import rawpy  # noqa: F401 - libraries loaded before memory is measured

    from pipeline.data import tiff_isolated
    from raw import isolated

    print("ready", flush=True)
    for line in sys.stdin:
        _reset_peak("self")
        result, detail = examine(Path(line.rstrip("\n")))
        children = [child.DECODER.pid for child in (isolated, tiff_isolated)]
        ended = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
        memory = {"reader": _peak("self"), "decoder": max(ended, *(_peak(str(pid)) for pid in children))}
        print(json.dumps({"result": result, "detail": detail, "memory": memory}), flush=True)


def _reset_peak(pid: str) -> None:
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def _peak(pid: str) -> int:
    try:
        return int(re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())[1]) * 1024
    except OSError:
        return 0


def _chosen(generator: np.random.Generator, whole: list[Seed]) -> Seed:
    kinds = [kind for kind in SHARES if any(seed.kind == kind for seed in whole)]
    weights = np.array([SHARES[kind] for kind in kinds])
    kind = kinds[int(generator.choice(len(kinds), p=weights / weights.sum()))]
    same = [seed for seed in whole if seed.kind == kind]
    return same[int(generator.integers(len(same)))]


def _suffix(seed: Seed, generator: np.random.Generator) -> str:
    if seed.kind in ("raw", "dng"):
        return Path(seed.name).suffix or ".dng"
    if seed.kind == "tiff" and generator.random() < 0.15:
        return ".nef"  # most raw formats are TIFF structures
    return f".{seed.kind}"


def _report(outcomes: list[Outcome], peaks: dict[str, int], seconds: float, command: str) -> Iterator[str]:
    results = ("picture", "refused", "ugly", "memory", "hang", "crash")
    yield f"{len(outcomes)} damaged files in {seconds:.0f} s on {os.cpu_count()} cores ({platform.machine()}):"
    yield f"`{command}`"
    yield ""
    yield "| kind | files | " + " | ".join(results) + " | slowest |"
    yield "|---|---|" + "---|" * len(results) + "---|"
    for kind in [*SHARES, "all"]:
        rows = [outcome for outcome in outcomes if kind in (outcome.kind, "all")]
        counts = Counter(outcome.result for outcome in rows)
        slowest = max((outcome.seconds for outcome in rows), default=0.0)
        cells = " | ".join(str(counts[result]) for result in results)
        yield f"| {kind} | {len(rows)} | {cells} | {slowest:.2f} s |"
    yield ""
    slow = max(outcomes, key=lambda outcome: outcome.seconds)
    yield f"Slowest: {slow.kind} {slow.seed}, {slow.damage}: {slow.seconds:.2f} s. {slow.detail}".strip()
    faults = Counter(fault for outcome in outcomes for fault in CONTAINED if fault in outcome.detail)
    told = ", ".join(f"{count} that {fault.removeprefix('the decoder ')}" for fault, count in faults.items())
    yield f"Faults of the decoding processes, each told as the refusal of its file: {told or 'none'}."
    for name, bytes_ in peaks.items():
        yield f"Peak memory of the {name}: {bytes_ / 2**20:.0f} MiB (cap {MEMORY_CAP / 2**20:.0f} MiB)."


def main() -> None:
    """Run, print, and write the report."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="document whose marked part is replaced")
    parser.add_argument("--keep", type=Path, help="folder for the files that went wrong")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        _work()
        return
    if arguments.keep:
        arguments.keep.mkdir(parents=True, exist_ok=True)
    start = time.perf_counter()
    outcomes, peaks = fuzz(arguments.count, arguments.seed, keep=arguments.keep)
    command = f"python -m tests.benchmarks.fuzz_reader --count {arguments.count} --seed {arguments.seed}"
    report = list(_report(outcomes, peaks, time.perf_counter() - start, command))
    print("\n".join(report))
    for outcome in outcomes:
        if outcome.result not in ("picture", "refused"):
            print(*outcome)
    if arguments.out:
        before, _, rest = arguments.out.read_text().partition(BEGIN)
        arguments.out.write_text("\n".join([before + BEGIN, *report, END + rest.partition(END)[2]]))


if __name__ == "__main__":
    main()
