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

from pipeline.tracking import Tracker, masked_uri, one_line
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
        self._late: dict[str, tuple[Tracker, str]] = {}
        """Runs of trials that are over, and how they ended, which the server has not heard."""

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
        self._open[key] = self._child(key, changed, number)

    def on_trial_result(self, *, trial: Any, result: dict[str, Any], **_: Any) -> None:
        """Send a rung's numbers, if it was judged.

        A trial that goes on after a death reports them again, with the same time, and MLflow takes them once.
        """
        key, _changed = self._identify(trial)
        if result["score"] is not None:
            self._send(key, result, result["logged_at"])
        event = {"event": "reported", "rung": result["rung"], "score": result["score"], "pid": result["pid"]}
        self._listen("trial", {"key": key, **event})

    def _send(self, key: str, result: dict[str, Any], at: float) -> None:
        if tracker := self._open.get(key):
            tracker.rows([{"step": result["step"], "time": at, "rung": result["rung"], **self._row(result)}])
            self._note(key, tracker)

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

    def close(self, status: str) -> str:
        """Close the parent, and as KILLED the children that the search leaves behind.

        Returns:
            One line on what the server has not heard of, empty if that is nothing.
        """
        answers = self._answers()
        for key in list(self._open):
            self._close(key, "KILLED")
        for key, (tracker, ending) in list(self._late.items()):
            if answers and not self._finish(key, tracker, ending, now=True):
                # One run may be refused by a server that takes all others.
                answers = self._answers()
        trackers = (self.parent, *(tracker for tracker, _ in self._late.values()))
        problem = next((tracker.problem for tracker in trackers if tracker.problem), "no answer")
        if answers:
            try:
                sweep(self.parent.run_id, set(self._ids["trials"].values()))
            except Exception as error:  # noqa: BLE001 - whatever the server raises, the search ends as it would
                problem, answers = one_line(error), False
        if self.parent.finish(status, now=answers) and answers and not self._late:
            return ""
        behind = f"{len(self._late)} of {len(self._numbers)} trials" if self._late else "the run of the search"
        return f"tracking: {masked_uri()} has not all of {behind}; --resume sends it when it answers ({problem})"

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

    def _answers(self) -> bool:
        # Where nothing waits to be sent, sending says nothing about the server.
        return self.parent.send(now=True) and self.parent.last_step("rung") is not None

    def _child(self, key: str, changed: dict[str, Any], number: int) -> Tracker:
        late = self._late.pop(key, None)
        if late:
            return late[0]
        tracker = Tracker(
            self._base.tracking.experiment,
            run_name=f"{self._out.name} {number}: {key}" + (f", seed {changed[SEED]}" if SEED in changed else ""),
            run_id=self._ids["trials"].get(key),
            parent=self.parent,
        )
        tracker.start({**changed, **plain_values(changed)}, {"trial": key}, monitor=False)
        self._note(key, tracker)
        return tracker

    def _close(self, key: str, status: str) -> None:
        tracker = self._open.pop(key, None)
        if tracker:
            self._finish(key, tracker, status, now=False)

    def _finish(self, key: str, tracker: Tracker, status: str, *, now: bool) -> bool:
        done = tracker.finish(status, now=now)
        self._note(key, tracker)
        if done:
            self._late.pop(key, None)
        else:
            self._late[key] = (tracker, status)
        return done

    def _note(self, key: str, tracker: Tracker) -> None:
        """Write down which run a trial has, as soon as it has one."""
        if tracker.run_id and self._ids["trials"].get(key) != tracker.run_id:
            self._ids["trials"][key] = tracker.run_id
            self._store()

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
