"""How many synthesizers and how much network a run of many GPUs needs: the tables of docs/scaling.md.

    python tests/benchmarks/scaling_model.py [--step-ms 30] [--batch 64] [--crop 64] [--pair-us 614]

Arithmetic only. `--pair-us` is the CPU time of one noisy and clean pair (bench_synthesis.py), `--call-ms` what a batch
costs beyond it (bench_feed.py --only call), `--step-ms` the length of a training step on one GPU.
"""

from __future__ import annotations

import argparse
import math


def rows(options: argparse.Namespace) -> list[list[str]]:
    """Return one row of the table for each number of GPUs."""
    step = options.step_ms / 1000
    made = options.batch * options.pair_us / 1e6 + options.call_ms / 1000
    crop_bytes = options.channels * options.crop**2 * 4
    pairs, cut = (share * options.batch * crop_bytes / step / 1e9 for share in (2, 1))
    # A ring sends and receives twice the gradients, nearly.
    exchange = 2 * options.parameters * 1e6 * 4 / step / 1e9
    found = []
    for gpus in options.gpus:
        nodes = math.ceil(gpus / options.gpus_per_node)
        here = min(gpus, options.gpus_per_node)
        actors = math.ceil(1.1 * gpus * made / step)
        cores = actors / nodes
        limit = options.cores_per_node - here
        found.append(
            [
                str(gpus),
                str(actors),
                f"{cores:.0f} of {limit}",
                f"{here * pairs:.1f}",
                f"{here * cut:.1f}",
                f"{exchange * (here if nodes > 1 else 0):.1f}",
                f"{gpus / step:,.0f}",
            ]
        )
    return found


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--step-ms", type=float, default=30)
    parser.add_argument("--batch", type=int, default=64, help="crops a GPU and step")
    parser.add_argument("--crop", type=int, default=64)
    parser.add_argument("--channels", type=int, default=3)
    parser.add_argument("--pair-us", type=float, default=614)
    parser.add_argument("--call-ms", type=float, default=2.0)
    parser.add_argument("--parameters", type=float, default=0.824, help="millions")
    parser.add_argument("--gpus", type=int, nargs="+", default=[8, 64, 512])
    parser.add_argument("--gpus-per-node", type=int, default=8)
    parser.add_argument("--cores-per-node", type=int, default=128)
    options = parser.parse_args()
    print("| GPUs | synthesizers | cores a node | pairs, GB/s | crops only, GB/s | gradients, GB/s | calls/s |")
    print("|---|---|---|---|---|---|---|")
    for row in rows(options):
        print(f"| {' | '.join(row)} |")


if __name__ == "__main__":
    main()
