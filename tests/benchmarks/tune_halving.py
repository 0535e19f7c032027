"""What ASHA would have stopped: searches whose trials all went to the end, replayed in many orders with Ray's own rule.

    python tests/benchmarks/tune_halving.py asha/none/tune.json [more ...] [--trials 16] [--slots 2] [--orders 200]
    python tests/benchmarks/tune_halving.py --agreement 0.9 --trials 16

The first form takes results of `unveil tune --scheduler none`; every order is a draw of `--trials` of its trials, all
of them unless given, the configuration as given first. The second draws scores whose rank at 1/9 of the training agrees
so much with that at the end. For each part of the trials that goes on from a rung (a third, a quarter, a fifth) it
prints how many times less was trained than by every trial to the end, in how many orders the winner is the best there
was, and its place on average. Results: docs/results/tune.md.
"""

from __future__ import annotations

import argparse
import heapq
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from numpy.typing import NDArray

STAGES = (1 / 9, 1 / 3, 1.0)
"""Parts of the training after which trials are judged."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results", nargs="*", type=Path)
    parser.add_argument("--trials", type=int, default=0)
    parser.add_argument("--slots", type=int, default=2)
    parser.add_argument("--orders", type=int, default=200)
    parser.add_argument("--agreement", type=float, default=0.9)
    arguments = parser.parse_args()
    random = np.random.default_rng(0)
    known = [scores_of(path) for path in arguments.results]
    print("| goes on | times less training | the worst tenth of orders | best trial found | its place on average |")
    print("|---|---|---|---|---|")
    orders = []
    for number in range(arguments.orders):
        scores = known[number % len(known)] if known else drawn(arguments.trials or 16, arguments.agreement, random)
        rest = 1 + random.permutation(len(scores) - 1)[: (arguments.trials or len(scores)) - 1]
        orders.append(scores[[0, *rest]])
    for factor in (3, 4, 5):
        saved, places = zip(*(replay(scores, factor, arguments.slots) for scores in orders), strict=True)
        found = np.mean(np.array(places) == 1)
        cells = [f"1/{factor}", f"{np.mean(saved):.2f}", f"{np.percentile(saved, 10):.2f}", f"{found:.0%}"]
        print(f"| {' | '.join(cells)} | {np.mean(places):.2f} |", flush=True)


def scores_of(path: Path) -> NDArray[np.float64]:
    """Return (trials, rungs) scores of a search in which every trial reached the end; larger is better."""
    found = json.loads(path.read_text("utf-8"))
    sign = 1 if found["score_mode"] == "max" else -1
    trials = sorted(found["trials"], key=lambda trial: trial["number"])
    rows = [{row["rung"]: sign * row["score"] for row in trial["history"]} for trial in trials]
    return np.array([[row[round(9 * part)] for part in STAGES] for row in rows])


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
