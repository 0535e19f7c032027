"""How much of the differences between trials each searched value explains, and how much chance would.

A random forest is fitted to the scores (Hutter et al., "An efficient approach for assessing hyperparameter importance",
ICML 2014): a value's importance is the variance of the forest's mean prediction over it, all others averaged out, as a
share of the variance of all predictions. With few trials a forest finds patterns in anything, so the same is done with
the scores shuffled; what is not above 95 % of that says nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from tuning.space import plain_values

if TYPE_CHECKING:
    from tuning.summary import Trial

LEAST: Final = 8
"""Trials with a score at the same rung, below which nothing is said."""

_SHUFFLES: Final = 20
_TREES: Final = 40

Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True)
class Importance:
    """Of each searched value."""

    method: str
    rung: int
    """Of the scores that are explained: the last one that enough trials reached."""

    trials: int
    shares: dict[str, float]
    """Largest first."""

    chance: dict[str, float]
    """What shuffled scores give at most in 19 of 20 cases."""

    direction: dict[str, float]
    """Spearman's correlation of value and score, -1 to 1; 0 for names."""


def importance_of(trials: Sequence[Trial]) -> Importance | None:
    """Return what explains the scores; None with too few trials, or where all scores or all values are the same."""
    rung, chosen = _comparable(trials)
    scores = np.array([_score_at(trial, rung) for trial in chosen], np.float64)
    values = [plain_values(trial.overrides) for trial in chosen]
    names = [name for name in (values[0] if values else {}) if len({str(value[name]) for value in values}) > 1]
    if len(chosen) < LEAST or not names or not scores.std():
        return None
    columns = np.column_stack([_column([value[name] for value in values]) for name in names])
    explain, method = _explainer()
    shares = explain(columns, scores)
    random = np.random.default_rng(0)
    shuffled = np.stack([explain(columns, random.permutation(scores)) for _ in range(_SHUFFLES)])
    order = np.argsort(-shares, kind="stable")
    numeric = {name: not isinstance(values[0][name], str) for name in names}
    return Importance(
        method=method,
        rung=rung,
        trials=len(chosen),
        shares={names[at]: round(float(shares[at]), 4) for at in order},
        chance={names[at]: round(float(np.quantile(shuffled[:, at], 0.95)), 4) for at in order},
        direction={
            names[at]: round(_spearman(columns[:, at], scores), 4) if numeric[names[at]] else 0.0 for at in order
        },
    )


def _comparable(trials: Sequence[Trial]) -> tuple[int, list[Trial]]:
    """Scores at different rungs are not comparable: take the last that enough trials reached, else the first."""
    reached = sorted((trial.rung for trial in trials if trial.rung), reverse=True)
    rung = reached[LEAST - 1] if len(reached) >= LEAST else 1
    return rung, [trial for trial in trials if _score_at(trial, rung) is not None]


def _score_at(trial: Trial, rung: int) -> float | None:
    return next((float(row["score"]) for row in trial.history if row["rung"] >= rung), None)


def _column(values: Sequence[float | str]) -> Array:
    """Numbers as they are, names as their number in the order of the alphabet."""
    names = sorted({value for value in values if isinstance(value, str)})
    return np.array([names.index(value) if isinstance(value, str) else float(value) for value in values], np.float64)


def _explainer() -> tuple[Any, str]:
    try:
        import sklearn.ensemble  # noqa: F401
    except ImportError:
        return _by_rank, "squared rank correlation"
    return _by_forest, "random forest, main effects"


def _by_forest(columns: Array, scores: Array) -> Array:
    from sklearn.ensemble import RandomForestRegressor

    forest = RandomForestRegressor(n_estimators=_TREES, min_samples_leaf=2, random_state=0, n_jobs=1)
    forest.fit(columns, scores)
    total = float(np.var(forest.predict(columns)))
    if not total:
        return np.zeros(columns.shape[1])
    shares = []
    for at in range(columns.shape[1]):
        grid = np.unique(columns[:, at])
        tried = np.repeat(columns[None], len(grid), axis=0)
        tried[:, :, at] = grid[:, None]
        means = forest.predict(tried.reshape(-1, columns.shape[1])).reshape(len(grid), -1).mean(axis=1)
        weights = np.array([(columns[:, at] == value).mean() for value in grid])
        mean = float(weights @ means)
        shares.append(float(weights @ (means - mean) ** 2) / total)
    return np.minimum(np.array(shares, np.float64), 1.0)


def _by_rank(columns: Array, scores: Array) -> Array:
    return np.array([_spearman(column, scores) ** 2 for column in columns.T], np.float64)


def _spearman(first: Array, second: Array) -> float:
    from scipy.stats import rankdata

    a, b = rankdata(first), rankdata(second)
    return float(np.corrcoef(a, b)[0, 1]) if a.std() and b.std() else 0.0
