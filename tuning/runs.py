"""The driver's view of the trials: one MLflow child run each, whatever dies, and the events that are shown.

Trials never write to MLflow themselves: Ray kills them when the scheduler stops them, and their runs would
stay open for ever. A trial has one child run for the life of its search, found again by its key.
"""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ray.tune import Callback

from pipeline.tracking import Tracker, one_line
from pipeline.training.rundir import write_json
from tuning.leftovers import sweep
from tuning.objective import trial_folder
from tuning.plan import Plan
from tuning.space import SEED, overrides, plain_values, trial_key

Listener = Callable[[str, dict[str, Any]], None]
"""Called with ("say", {"text"}) and with ("trial", {"event", "key", ...}) as the search goes on."""

TRIAL_FILE = "trial.json"
_RUNS_FILE = "mlflow.json"


class TrialRuns(Callback):  # type: ignore[misc]  # Ray is not typed
    """Opens, feeds and closes the child runs, from the thread that runs the search."""

    def __init__(self, out: Path, plan: Plan, score_name: str, listen: Listener) -> None:
        self._out = out
        self._base = plan.base()
        self._score_name = score_name
        self._listen = listen
        self._open: dict[str, Tracker] = {}
        self.failed: dict[str, str] = {}
        """Reason of each failure, by trial key."""

        known = known_trials(out)
        self._numbers: dict[str, int] = {key: value["number"] for key, value in known.items()}
        # As it was sampled, which training it on under its overrides must not forget.
        self._points: dict[str, dict[str, Any]] = {key: value.get("point", {}) for key, value in known.items()}
        stored = out / _RUNS_FILE
        self._ids: dict[str, Any] = json.loads(stored.read_text("utf-8")) if stored.is_file() else {"trials": {}}
        experiment = self._base.tracking.experiment
        self.parent = Tracker(experiment, run_name=out.name, run_id=self._ids.get("run_id"))
        self._ids["run_id"] = self.parent.run_id
        self._store()

    def __getstate__(self) -> dict[str, Any]:
        """Leave everything here: Ray pickles callbacks for its own way of restoring, which is not used."""
        return {}

    def on_trial_start(self, *, trial: Any, **_: Any) -> None:
        """Open the child run of a trial, or find the one that it had."""
        key, changed = self._identify(trial)
        if key in self._open:  # the second attempt of a trial that crashed
            return
        number = self._number(key, changed, trial)
        folder = trial_folder(self._out, key)
        folder.mkdir(parents=True, exist_ok=True)
        point = self._points.setdefault(key, dict(trial.config))
        write_json(folder / TRIAL_FILE, {"number": number, "overrides": changed, "point": point})
        self._listen("trial", {"event": "started", "key": key, "overrides": changed})
        tracker = self._child(key, changed, number)
        if tracker:
            self._open[key] = tracker

    def on_trial_result(self, *, trial: Any, result: dict[str, Any], **_: Any) -> None:
        """Send a rung's numbers.

        A trial that goes on after a death reports them again, with the same time, and MLflow takes them once.
        """
        key, _changed = self._identify(trial)
        self._send(key, result, result["logged_at"])
        event = {"event": "reported", "rung": result["rung"], "score": result["score"], "pid": result["pid"]}
        self._listen("trial", {"key": key, **event})

    def _send(self, key: str, result: dict[str, Any], at: float) -> None:
        tracker = self._open.get(key)
        if tracker:
            tracker.rows([{"step": result["step"], "time": at, "rung": result["rung"], **self._row(result)}])

    def _row(self, result: dict[str, Any]) -> dict[str, Any]:
        """Return what MLflow gets of a row."""
        parts = {_metric(f"part {name}"): value for name, value in (result.get("parts") or {}).items()}
        scores = result.get("scores") or {self._score_name: result["score"]}
        return {**parts, **scores, "loss": result["loss"], "seconds": result["seconds"]}

    def on_trial_complete(self, *, trial: Any, **_: Any) -> None:
        """Close the child run of a trial that reached its end or was stopped."""
        key, _changed = self._identify(trial)
        self._close(key, "FINISHED")
        self._listen("trial", {"event": "finished", "key": key})

    def on_trial_error(self, *, trial: Any, **_: Any) -> None:
        """Close the child run of a trial that failed for good, and keep the reason."""
        key, _changed = self._identify(trial)
        self.failed[key] = _reason(trial.error_file)
        self._close(key, "FAILED")
        self._listen("trial", {"event": "failed", "key": key, "reason": self.failed[key]})

    def close(self, status: str) -> None:
        """Close the parent, and as KILLED the children that the search leaves behind."""
        for key in list(self._open):
            self._close(key, "KILLED")
        try:
            sweep(self.parent.run_id, set(self._ids["trials"].values()))
        except Exception as error:  # noqa: BLE001 - whatever the server raises, the search ends as it would
            self.parent.problem = self.parent.problem or one_line(error)
        self.parent.finish(status)

    def _number(self, key: str, changed: dict[str, Any], trial: Any) -> int:
        """Return the number that the trial has had before, or that of the trial that it repeats, or Ray's, or the next.

        Trials that are sampled in advance are numbered by Ray in that order, whichever of their processes is up first.
        """
        repeated = trial_key({name: value for name, value in changed.items() if name != SEED})
        if key not in self._numbers:
            _, numbered, suffix = trial.trial_id.rpartition("_")
            following = int(suffix) if numbered else 1 + max(self._numbers.values(), default=-1)
            self._numbers[key] = self._numbers.get(repeated, following)
        return self._numbers[key]

    def _identify(self, trial: Any) -> tuple[str, dict[str, Any]]:
        changed = overrides(self._base, trial.config)
        return trial_key(changed), changed

    def _child(self, key: str, changed: dict[str, Any], number: int) -> Tracker | None:
        try:
            tracker = Tracker(
                self._base.tracking.experiment,
                run_name=f"{self._out.name} {number}: {key}" + (f", seed {changed[SEED]}" if SEED in changed else ""),
                run_id=self._ids["trials"].get(key),
                parent=self.parent.run_id,
            )
            self._ids["trials"][key] = tracker.run_id
            self._store()
            tracker.start({**changed, **plain_values(changed)}, {"trial": key}, monitor=False)
        except Exception as error:  # noqa: BLE001 - whatever the server raises, the search goes on
            self.parent.problem = one_line(error)
            return None
        return tracker

    def _close(self, key: str, status: str) -> None:
        tracker = self._open.pop(key, None)
        if tracker:
            tracker.finish(status)
            self.parent.problem = self.parent.problem or tracker.problem

    def _store(self) -> None:
        write_json(self._out / _RUNS_FILE, self._ids)


def known_trials(out: Path) -> dict[str, dict[str, Any]]:
    """Return what the folder of a search says of each of its trials, by key."""
    found = sorted((out / "trials").glob(f"*/{TRIAL_FILE}"))
    return {path.parent.name: json.loads(path.read_text("utf-8")) for path in found}


def _metric(name: str) -> str:
    """Return a name that MLflow takes."""
    return re.sub(r"[^\w .:/-]", "_", name)


def _reason(error_file: str | None) -> str:
    """Return the line of an error that says what happened, without the class of our own and Ray's advice."""
    # Ray's own get_error() reads the copy in the storage folder, which is made later.
    text = Path(error_file).read_text("utf-8") if error_file and Path(error_file).is_file() else ""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    last = lines[-1] if lines else "unknown error"
    return textwrap.shorten(re.sub(r"^pipeline\.errors\.\w+: ", "", last), 200, placeholder=" ...")
