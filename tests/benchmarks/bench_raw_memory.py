"""Peak memory of a raw file's way in and out: read, normalised planes, integers again, DNG.

Each case runs in a fresh process, which reports the high-water mark of its resident memory (Linux). Run:

    .venv/bin/python tests/benchmarks/bench_raw_memory.py [--megapixels 12] [--json]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LIMIT = 6.0

CHILD = """
import sys
from pathlib import Path

def status(key):
    return next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith(key))

bare = status("VmRSS")
case, source, target = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
sys.path.insert(0, sys.argv[4])
from raw.dng import dng_like
from raw.files import libraw_version, read_raw
from raw.levels import denormalise, normalise
libraw_version()
if case == "develop":
    from raw.develop import develop
imported = status("VmRSS")
Path("/proc/self/clear_refs").write_text("5")
raw = read_raw(source)
read = status("VmHWM")
if case == "round trip":
    packed = normalise(raw.mosaic, raw)
    dng_like(raw, denormalise(packed, raw, shape=raw.mosaic.shape), target)
elif case == "develop":
    develop(raw)
print(bare, imported, read, status("VmHWM"), raw.mosaic.nbytes)
"""


def write_source(path: Path, megapixels: float) -> None:
    """A Bayer DNG of that size, 3:2, with the levels of a photograph."""
    import numpy as np

    sys.path.insert(0, str(ROOT))
    from raw.dng import write_dng

    height = round((megapixels * 1e6 * 2 / 3) ** 0.5) // 2 * 2
    width = round(megapixels * 1e6 / height) // 2 * 2
    pixels = np.random.default_rng(0).integers(500, 16000, (height, width), dtype=np.uint16)
    write_dng(path, pixels, black_levels=(512.0,) * 4, white_level=16383, rgb_cam=np.eye(3), noise=((1e-3, 1e-6),))


def measure(case: str, source: Path, target: Path) -> dict[str, float]:
    """Megabytes and the ratio to the raw array, for one case in a process of its own."""
    command = [sys.executable, "-c", CHILD, case, str(source), str(target), str(ROOT)]
    run = subprocess.run(command, check=True, capture_output=True, text=True)
    bare, imported, read, peak, array = (int(number) for number in run.stdout.split())
    return {
        "array_mb": array / 1e6,
        "imports_mb": (imported - bare) / 1e6,
        "read_ratio": (read - imported) / array,
        "ratio": (peak - imported) / array,
        "ratio_with_imports": (peak - bare) / array,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description="Peak memory of reading and writing a raw file.")
    parser.add_argument("--megapixels", type=float, default=12.0)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "source.dng"), Path(folder, "target.dng")
        write_source(source, arguments.megapixels)
        results = {case: measure(case, source, target) for case in ("round trip", "develop")}
        from raw.files import read_raw

        if (read_raw(source).mosaic != read_raw(target).mosaic).any():
            raise AssertionError("the file that was written is not the one that was read")
    if arguments.json:
        print(json.dumps(results))
    else:
        print("| case | raw array | peak of reading | peak | with the imports of the libraries |")
        print("|---|---|---|---|---|")
        for case, found in results.items():
            print(
                f"| {case} | {found['array_mb']:.1f} MB | {found['read_ratio']:.2f}x | {found['ratio']:.2f}x |"
                f" {found['ratio_with_imports']:.2f}x (imports {found['imports_mb']:.0f} MB) |"
            )
    return 0 if results["round trip"]["ratio"] < LIMIT else 1


if __name__ == "__main__":
    sys.exit(main())
