"""The main job from end to end: images, training on Ray, registration, denoising, a table and a report.

Without a folder of the user's, clean photographs that ship with scikit-image stand in: some train (Ray actors put
camera noise on them), others are noised once, denoised and compared with what they were. With one, its noisy photos
train by asymmetric masks, and the table says how much noise is left, since nothing else is known about them.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.config import load_config
from pipeline.errors import UserError

if TYPE_CHECKING:
    from pipeline.data.folders import SourceFile
    from pipeline.schema import TrainConfig
    from pipeline.training.launch import TrainResult

TRAIN_IMAGES = (
    "motorcycle_left.png",
    "motorcycle_right.png",
    "rocket.jpg",
    "ihc.png",
    "hubble_deep_field.jpg",
    "retina.jpg",
    "brick.png",
    "grass.png",
    "gravel.png",
    "camera.png",
)
TEST_IMAGES = ("astronaut.png", "chelsea.png", "coffee.png")
BASELINE = "nlm"
_TEST_SEED = 1
_PHOTO_PIXELS = 2_500_000
"""About how many pixels of the user's photos are denoised and compared: a minute on a laptop."""

Trainer = Callable[["TrainConfig", Path], "TrainResult"]
Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True, slots=True)
class DemoResult:
    """What the demo found; the JSON of `unveil demo --json`."""

    run_dir: str
    registered_model: str
    version: int
    mlflow_run_id: str
    denoised: str
    report: str
    picture: str
    table: list[dict[str, Any]]
    """Rows noisy, baseline, unveil: `name` and named metrics."""

    steps: int
    seconds: float
    next: list[str]
    """Commands to type next."""


def run_demo(out: Path, data: Path | None, overrides: list[str], *, train: Trainer, say: Say) -> DemoResult:
    """Run the whole job into a new folder below `out`.

    Raises:
        UserError: `data` holds no images that can be trained on.
        RunError: training failed.
    """
    from pipeline.data.folders import scan
    from pipeline.data.noisy_side import noisy_side
    from pipeline.evaluation.run_report import report_run
    from pipeline.inference.denoiser import NetworkDenoiser
    from pipeline.inference.files import denoise_files

    start = time.monotonic()
    folder = _new_folder(out)
    run_dir = folder / "run"
    if data is None:
        clean, test = folder / "train", folder / "test"
        config = load_config(preset="demo", overrides=[_workers(), *overrides], data=str(clean))
        say(f"images: {len(TRAIN_IMAGES)} photographs of scikit-image to train on, {len(TEST_IMAGES)} others to test")
        _own_images(clean, test, config)
        sources = scan([test / "noisy"])
    else:
        test = None
        own = [
            _workers(),
            "training.minutes=3",
            "tracking.model=unveil-demo",
            "tracking.experiment=unveil-demo",
        ]
        config = load_config(preset="quick", overrides=[*own, *overrides], data=str(data))
        sources = _some(noisy_side(scan([data]), config.data.layout))
    trained = train(config, run_dir)
    denoiser = NetworkDenoiser(Path(trained.weights))
    say(f"denoising {len(sources)} images")
    denoised = folder / "denoised"
    if denoise_files(sources, denoiser, denoised).stopped:
        raise KeyboardInterrupt
    say("comparing with the noisy images and a classical denoiser")
    table = _pairs_table(denoiser, test, run_dir) if test else _photos_table(sources, denoised)
    photos = None if test else sources
    shown = report_run(run_dir, photos=photos, out=folder / "report.html", title="unveil demo")
    # A gate that did not let it be champion does not keep it from being used.
    at = f"@{trained.alias}" if trained.alias else f"/{trained.version}"
    model = f"models:/{trained.registered_model}{at}"
    folder_of_photos = shlex.quote(str(data)) if data else "my/photos"
    return DemoResult(
        run_dir=str(run_dir),
        registered_model=trained.registered_model,
        version=trained.version,
        mlflow_run_id=trained.mlflow_run_id,
        denoised=str(denoised),
        report=shown["report"],
        picture=shown["picture"],
        table=table,
        steps=trained.steps,
        seconds=round(time.monotonic() - start, 1),
        next=[
            f"unveil denoise {folder_of_photos} --model {model} --out clean",
            f"unveil train --data {folder_of_photos} --out runs/mine",
            f"unveil models show {model}",
        ],
    )


def _new_folder(out: Path) -> Path:
    """Create the next of out/1, out/2, ...: a second demo never touches the first one's results."""
    taken = [int(path.name) for path in out.glob("*") if path.name.isdigit()]
    folder = out.resolve() / str(max(taken, default=0) + 1)
    folder.mkdir(parents=True)
    return folder


def _workers() -> str:
    """Use two cores if there are two: a trainer each, the synthesizer in what they leave."""
    return f"cluster.workers={min(2, os.cpu_count() or 1)}"


def _own_images(clean: Path, test: Path, config: TrainConfig) -> None:
    """Copy scikit-image's photographs to train on, and make the noisy and clean pairs to test on."""
    import skimage.data

    from pipeline.data.folders import SourceFile
    from pipeline.data.synth_files import synthesise

    shipped = Path(skimage.data.__file__).parent
    clean.mkdir()
    for name in TRAIN_IMAGES:
        shutil.copyfile(shipped / name, clean / name)
    sources = [SourceFile(shipped / name, Path(name)) for name in TEST_IMAGES]
    if config.noise is None:
        raise UserError("noise: the demo makes its images noisy, found no recipe")
    synthesise(sources, test, config.noise, seed=_TEST_SEED)


def _some(sources: list[SourceFile]) -> list[SourceFile]:
    """Return the first readable images that together have about `_PHOTO_PIXELS`, at least one."""
    from pipeline.data.images import ImageError, read_size

    chosen: list[SourceFile] = []
    pixels = 0
    for source in sources:
        try:
            height, width = read_size(source.path)[:2]
        except ImageError:
            continue
        if chosen and pixels + height * width > _PHOTO_PIXELS:
            break
        chosen.append(source)
        pixels += height * width
    return chosen


def _pairs_table(denoiser: Any, test: Path, run_dir: Path) -> list[dict[str, Any]]:
    """Measure on the test pairs; leaves evaluation.json for the report."""
    from pipeline.evaluation.contenders import OURS
    from pipeline.evaluation.evaluate import evaluate
    from pipeline.training.rundir import write_json

    found = evaluate(denoiser, test, baselines=(BASELINE,))
    write_json(run_dir / "evaluation.json", found)
    methods = found["sets"][0]["methods"]
    rows = {"noisy": methods["noisy"], BASELINE: methods[BASELINE], "unveil": methods[OURS]}
    return [
        {"name": name, **{metric: row["metrics"][metric]["mean"] for metric in found["metrics"]}}
        for name, row in rows.items()
    ]


def _photos_table(sources: list[SourceFile], denoised: Path) -> list[dict[str, Any]]:
    """Estimate the noise left in photos that have no clean partner."""
    import numpy as np

    from pipeline.data.images import read_image, to_float
    from pipeline.evaluation.baselines import BASELINES, noise_sigma
    from pipeline.inference.outputs import plan_outputs

    rows: dict[str, list[float]] = {"noisy": [], BASELINE: [], "unveil": []}
    for source, output in zip(sources, plan_outputs(sources, denoised), strict=True):
        noisy = to_float(read_image(source.path).pixels)[..., :3]
        rows["noisy"].append(noise_sigma(noisy))
        rows[BASELINE].append(noise_sigma(BASELINES[BASELINE](noisy)))
        rows["unveil"].append(noise_sigma(to_float(read_image(Path(output)).pixels)[..., :3]))
    return [{"name": name, "noise_sigma_255": 255 * float(np.mean(values))} for name, values in rows.items()]


def as_json(result: DemoResult) -> dict[str, Any]:
    """Return the result as the object that scripts read."""
    from dataclasses import asdict

    value: dict[str, Any] = json.loads(json.dumps(asdict(result)))
    return value
