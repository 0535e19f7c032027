"""How often the 95 % interval of `pipeline.evaluation.statistics` holds the true mean: the table of docs/metrics.md.

    OMP_NUM_THREADS=1 python -m tests.benchmarks.interval_coverage [--sets 2000]

Draws sets of values whose mean is known, from three distributions: symmetric, skewed, and very skewed.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from pipeline.evaluation.statistics import summarise

COUNTS = (6, 10, 24, 60, 200)
DISTRIBUTIONS: dict[str, tuple[float, Callable[[np.random.Generator, int], NDArray[np.float64]]]] = {
    "normal": (0.0, lambda generator, count: generator.normal(size=count)),
    "exponential": (1.0, lambda generator, count: generator.exponential(size=count)),
    "log-normal": (math.exp(0.5), lambda generator, count: np.exp(generator.normal(size=count))),
}
"""Name -> true mean, and how to draw."""


def coverage(name: str, count: int, sets: int) -> float:
    """Share of ``sets`` sets of ``count`` values whose interval holds the mean of the distribution."""
    mean, draw = DISTRIBUTIONS[name]
    generator = np.random.default_rng(count)
    hits = 0
    for seed in range(sets):
        low, high = summarise(list(draw(generator, count)), seed=seed)["interval"]
        hits += low <= mean <= high
    return hits / sets


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", type=int, default=2000)
    arguments = parser.parse_args()
    print(f"| images | {' | '.join(DISTRIBUTIONS)} |\n|{'---|' * (1 + len(DISTRIBUTIONS))}")
    for count in COUNTS:
        cells = [f"{coverage(name, count, arguments.sets):.1%}".replace("%", " %") for name in DISTRIBUTIONS]
        print(f"| {count} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
