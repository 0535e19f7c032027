"""What ASHA would have stopped: searches whose trials all went to the end, replayed in many orders with Ray's own rule.

    python tests/benchmarks/tune_halving.py --agreement 0.9 --trials 16 [--slots 2] [--orders 200]

Scores are drawn, so that those at 1/9 of the training agree so much with those at the end. For each part of the trials
that goes on from a rung (a third, a quarter, a fifth) it prints how many times less was trained than by every trial to
the end, in how many orders the winner is the best there was, and its place on average. Results: docs/results/tune.md.
"""

from __future__ import annotations

import argparse
import heapq
from types import SimpleNamespace

import numpy as np
from numpy.typing import NDArray

STAGES = (1 / 9, 1 / 3, 1.0)
"""Parts of the training after which trials are judged."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=16)
    parser.add_argument("--slots", type=int, default=2)
    parser.add_argument("--orders", type=int, default=200)
    parser.add_argument("--agreement", type=float, default=0.9)
    arguments = parser.parse_args()
    random = np.random.default_rng(0)
    print("| goes on | times less training | the worst tenth of orders | best trial found | its place on average |")
    print("|---|---|---|---|---|")
    orders = []
    for _ in range(arguments.orders):
        scores = drawn(arguments.trials, arguments.agreement, random)
        orders.append(scores[[0, *(1 + random.permutation(len(scores) - 1))]])
    for factor in (3, 4, 5):
        saved, places = zip(*(replay(scores, factor, arguments.slots) for scores in orders), strict=True)
        found = np.mean(np.array(places) == 1)
        cells = [f"1/{factor}", f"{np.mean(saved):.2f}", f"{np.percentile(saved, 10):.2f}", f"{found:.0%}"]
        print(f"| {' | '.join(cells)} | {np.mean(places):.2f} |", flush=True)


def drawn(trials: int, agreement: float, random: np.random.Generator) -> NDArray[np.float64]:
    """Return (trials, rungs) scores; those of the first rung have that correlation with those at the end."""
    end = random.normal(size=trials)
    columns = []
    for share in (agreement, (1 + agreement) / 2):
        columns.append(share * end + np.sqrt(1 - share**2) * random.normal(size=trials))
    return np.stack([*columns, end], axis=1)


def replay(scores: NDArray[np.float64], factor: int, slots: int) -> tuple[float, int]:
    """Return how many times less is trained, and the place of the winner among all trials at the end."""
    from ray.tune.schedulers import ASHAScheduler, TrialScheduler

    scheduler = ASHAScheduler(
        time_attr="stage", metric="score", mode="max", max_t=factor**2, grace_period=1, reduction_factor=factor
    )
    events: list[tuple[float, int, int]] = []
    spent, waiting, ended = 0.0, list(range(len(scores)))[::-1], []

    def begin(now: float) -> None:
        number = waiting.pop()
        scheduler.on_trial_add(None, SimpleNamespace(trial_id=str(number)))
        heapq.heappush(events, (now + STAGES[0], number, 0))

    for _ in range(min(slots, len(scores))):
        begin(0.0)
    while events:
        now, number, stage = heapq.heappop(events)
        spent += STAGES[stage] - (STAGES[stage - 1] if stage else 0.0)
        result = {"stage": factor**stage, "score": scores[number, stage]}
        action = scheduler.on_trial_result(None, SimpleNamespace(trial_id=str(number)), result)
        if stage + 1 == len(STAGES):
            ended.append(number)
        if action == TrialScheduler.CONTINUE and stage + 1 < len(STAGES):
            heapq.heappush(events, (now + STAGES[stage + 1] - STAGES[stage], number, stage + 1))
        elif waiting:
            begin(now)
    best = max(ended, key=lambda number: scores[number, -1])
    return len(scores) / spent, 1 + int((scores[:, -1] > scores[best, -1]).sum())


if __name__ == "__main__":
    main()
