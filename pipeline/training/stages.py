"""A run with a student: teacher, targets, student.

1. A teacher learns from the photographs alone; or a finished network takes its place.
2. Its outputs, and the noise that it took off, become targets.
3. A plain network, the student, learns from pairs made of these.

RUN/teacher is a run folder of its own, RUN/targets the targets, and RUN itself the student's. A stage that is finished
is not repeated, so a run that was killed in any of them goes on there. Where a finished network is adapted, both are
measured on the same crops in the end, and the run keeps the better one.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.data.paths import shown
from pipeline.errors import UserError
from pipeline.evaluation.trust_gate import gate_as_json
from pipeline.training.fit import Fit
from pipeline.training.follow import following
from pipeline.training.intake import Listener, read_source
from pipeline.training.kept import Choice, choose, keep_start
from pipeline.training.stopping import Stopping
from pipeline.training.targets import Part, areas_in, make_targets, plan_targets

if TYPE_CHECKING:
    from models import InferenceSpec
    from pipeline.data.source import SourceSpec
    from pipeline.evaluation.trust_measures import TrustMeasures
    from pipeline.schema import TrainConfig
    from pipeline.tracking import Tracker

TEACHER, TARGETS = "teacher", "targets"


def train_in_stages(
    config: TrainConfig,
    run_dir: Path,
    source: SourceSpec,
    card: dict[str, Any],
    *,
    fit: Fit,
    tracker: Tracker,
    listen: Listener,
    stopping: Stopping,
) -> None:
    """Train teacher and student as `config` says; leaves the student's weights in `run_dir`.

    `stopping` is asked between targets.
    """
    from models import replace_card

    assert config.student is not None
    teacher = run_dir / TEACHER
    teacher.mkdir(exist_ok=True)
    adapts = config.student.teacher == "start"
    if adapts and not _weights(teacher):
        _take_start(config, teacher, listen)
    if not _weights(teacher):
        listen("say", {"text": f"stage 1 of 3: a teacher learns from the noisy images, in {teacher}"})
        with following(teacher, tracker, listen, stage=TEACHER):
            fit(config, teacher, source, card)
    parts = _make_targets(config, run_dir, source, listen, stopping)
    student = _of_student(config, run_dir)
    from_targets, _ = read_source(student, listen)
    # What shows whether noise was learnt by heart is kept from the student as it was from its teacher.
    areas = tuple(area for part in parts for area in areas_in(part, source.held_out))
    from_targets = replace(from_targets, held_out=areas)
    listen("say", {"text": f"stage 3 of 3: a student learns from {len(parts)} targets"})
    of_teacher = json.loads((teacher / "weights" / "model.json").read_text("utf-8"))
    about = {"sha256": of_teacher["sha256"], "gate": of_teacher["card"].get("gate"), "targets": len(parts)}
    with following(run_dir, tracker, listen, stage="student"):
        fit(student, run_dir, from_targets, {**card, "teacher": about})
    measures = _measure(config, run_dir / "weights", source)
    if adapts:
        _keep_the_better(config, run_dir, source, measures, tracker, listen)
    elif measures is not None:
        replace_card(run_dir / "weights", {**_card(run_dir / "weights"), "gate": gate_as_json(measures)})


def check_colours(config: TrainConfig, source: SourceSpec) -> None:
    """Raise UserError if a network for grey pictures would be adapted to colour ones."""
    from pipeline.data.images import read_header

    if config.student is None or config.student.teacher != "start" or config.network.channels != 1:
        return
    coloured = next((file for file in source.files if read_header(file).channels > 2), None)
    if coloured is not None:
        raise UserError(
            f"{shown(coloured)}: expected a grey picture, as the network of --init is for grey ones, found colour"
        )


def _take_start(config: TrainConfig, teacher: Path, listen: Listener) -> None:
    """Put the network that is adapted in the teacher's place, so that the run is whole without it."""
    import shutil

    from pipeline.inference.denoiser import find_weights

    weights = find_weights(config.training.start)
    listen("say", {"text": f"stage 1 of 3: no teacher is trained, {config.training.start} takes its place"})
    staged = teacher / ".weights"
    shutil.rmtree(staged, ignore_errors=True)
    staged.mkdir()
    for name in ("model.safetensors", "model.json"):
        shutil.copyfile(weights / name, staged / name)
    staged.rename(teacher / "weights")


def _keep_the_better(
    config: TrainConfig,
    run_dir: Path,
    source: SourceSpec,
    adapted: TrustMeasures | None,
    tracker: Tracker,
    listen: Listener,
) -> None:
    """Leave the better network in the run's weights, and say which and why: in the card, a line and MLflow."""
    from models import replace_card

    weights, teacher = run_dir / "weights", run_dir / TEACHER / "weights"
    start = _measure(config, teacher, source)
    if start is None or adapted is None:
        choice = Choice("start", "nothing was held out to measure a gain on")
        gates: dict[str, dict[str, Any] | None] = {"start": None, "adapted": None}
    else:
        choice = choose(start, adapted)
        gates = {"start": gate_as_json(start), "adapted": gate_as_json(adapted)}
    card = _card(weights)
    if choice.kept == "start":
        keep_start(run_dir, teacher)
    facts = {"kept": choice.kept, "why": choice.why, "start": config.training.start, "gates": gates}
    replace_card(weights, {**card, "gate": gates[choice.kept], "adaptation": facts})
    what = "the adapted network is kept" if choice.kept == "adapted" else "the start is kept"
    listen("say", {"text": f"{what}: {choice.why}"})
    tracker.tags({"kept": choice.kept, "kept_why": choice.why})


def _card(weights: Path) -> dict[str, Any]:
    card: dict[str, Any] = json.loads((weights / "model.json").read_text("utf-8"))["card"]
    return card


def _of_student(config: TrainConfig, run_dir: Path) -> TrainConfig:
    """Return the student's own training: on targets, from its teacher's weights if they fit, in one direct pass."""
    from pipeline.config import check, dump

    assert config.student is not None
    student = config.student
    tree = dump(config)
    start = str(run_dir / TEACHER / "weights") if student.network == config.network else ""
    return check(
        {
            **tree,
            "student": None,
            "data": {**tree["data"], "path": str(run_dir / TARGETS), "layout": "plain"},
            "network": dump_part(student.network),
            "method": dump_part(student.method),
            "inference": dump_part(_use_of(config)),
            "optimizer": {**tree["optimizer"], "lr": student.lr},
            "training": {**tree["training"], "steps": student.steps, "minutes": student.minutes, "start": start},
        }
    )


def _use_of(config: TrainConfig) -> InferenceSpec:
    """How the student denoises: in one direct pass, with the start's mend of offsets where it adapts one."""
    from models import InferenceSpec

    assert config.student is not None
    adapts = config.student.teacher == "start"
    return InferenceSpec(offset=config.inference.offset) if adapts else InferenceSpec()


def dump_part(spec: Any) -> dict[str, Any]:
    """Return a spec as JSON values."""
    from dataclasses import asdict

    values: dict[str, Any] = json.loads(json.dumps(asdict(spec)))
    return values


def _make_targets(
    config: TrainConfig, run_dir: Path, source: SourceSpec, listen: Listener, stopping: Stopping
) -> list[Part]:
    from pipeline.data.images import read_size
    from pipeline.inference.denoiser import NetworkDenoiser

    assert config.student is not None
    sizes = [(Path(file), *read_size(Path(file))[:2]) for file in source.files]
    parts = plan_targets(
        sizes,
        run_dir / TARGETS,
        megapixels=config.student.megapixels,
        least=config.data.crop,
        held_out=source.held_out,
    )
    missing = [part for part in parts if not part.target.is_file()]
    if missing:
        megapixels = sum(part.height * part.width for part in missing) / 1e6
        listen("say", {"text": f"stage 2 of 3: the teacher denoises {len(missing)} targets ({megapixels:.1f} MP)"})
    denoiser = NetworkDenoiser(run_dir / TEACHER / "weights")

    def tell(done: int, total: int, seconds_left: float) -> None:
        stopping.check()
        listen("progress", {"task": "targets", "done": done, "total": total, "seconds_left": seconds_left})

    return make_targets(parts, denoiser, config.student, max_pixels=config.data.max_pixels, on_progress=tell)


def _measure(config: TrainConfig, weights: Path, source: SourceSpec) -> TrustMeasures | None:
    """Measure a network on the photographs' held-out crops, as the teacher is; None if none are."""
    if not config.trust.every or not source.measured:
        return None
    import numpy as np
    import torch

    from models import load
    from pipeline.data.held_out import MEASURE_BATCH
    from pipeline.data.source import BatchSource
    from pipeline.evaluation.trust import beside_nlm, denoise_with, measure_trust

    crops = BatchSource(source).batch(MEASURE_BATCH, range(config.trust.crops))
    loaded = load(weights)
    denoise = denoise_with(loaded.network, loaded.inference)
    noisy, images = torch.from_numpy(crops["noisy"]), np.asarray(crops["images"])
    return beside_nlm(measure_trust(denoise, noisy, images), noisy, images)


def _weights(folder: Path) -> bool:
    return all((folder / "weights" / name).is_file() for name in ("model.safetensors", "model.json"))
