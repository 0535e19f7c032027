"""Runs that start from a finished network: shape and domain, which of the two is kept, and what a run says of it."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest

from models import InferenceSpec, UNetSpec, save
from models.build import build
from pipeline.errors import UserError
from pipeline.evaluation.trust_measures import TrustMeasures
from pipeline.training import kept
from pipeline.training.init import initialised
from pipeline.training.kept import choose

TINY = UNetSpec(width=4, depth=1, residual=True)
QUICK = ("data.crop=32", "student.steps=2", "trust.crops=4", "cluster.workers=0")


def network(folder: Path, spec: UNetSpec = TINY, **card: object) -> Path:
    save(folder, build(spec, seed=1), spec=spec, inference=InferenceSpec(offset="level"), card=card)
    return folder


@pytest.fixture
def noisy_folder(tmp_path: Path, photo: np.ndarray) -> Path:
    """Three photographs of 96x96 with noise, one of them grey."""
    folder = tmp_path / "noisy"
    folder.mkdir()
    generator = np.random.default_rng(0)
    for index, (top, left) in enumerate([(0, 0), (80, 100), (150, 40)]):
        picture = photo[top : top + 96, left : left + 96] + generator.normal(0, 15, (96, 96, 3))
        iio.imwrite(folder / f"{index}.png", np.rint(picture.clip(0, 255)).astype(np.uint8))
    return folder


def test_the_network_and_its_use_are_those_of_the_start(tmp_path: Path) -> None:
    start = network(tmp_path / "w")
    config = initialised(str(start), data=str(tmp_path))
    assert config.network == TINY
    assert config.student is not None
    assert (config.student.network, config.student.teacher) == (TINY, "start")
    assert config.inference.offset == "level"
    assert config.training.start == str(start)
    # With a preset that trains a teacher it is a start like any other.
    assert initialised(str(start), preset="quick").student is None


@pytest.mark.parametrize(
    ("card", "spec", "arguments", "reason"),
    [
        ({}, TINY, {"overrides": ["network.width=8"]}, r"network\.width: expected 4, that of --init .*, found 8"),
        ({}, TINY, {"preset": "nafnet"}, r"network\.kind: expected 'unet', that of --init .*, found 'nafnet'"),
        ({"domain": "raw"}, TINY, {}, "expected a model for pictures, found one for raw files"),
        ({}, TINY, {"preset": "raw"}, r"expected a model for raw files, since data\.domain is 'raw'"),
        ({}, TINY, {"overrides": ["student.network.width=8"]}, r"network\.width: expected 4, that of --init"),
    ],
)
def test_another_shape_or_domain_is_refused(tmp_path, card, spec, arguments, reason):
    with pytest.raises(UserError, match=reason) as caught:
        initialised(str(network(tmp_path / "w", spec, **card)), **arguments)
    assert "\n" not in str(caught.value)


def test_init_goes_with_a_new_run_only_and_a_grey_network_with_grey_pictures(tmp_path, noisy_folder, unveil):
    start = network(tmp_path / "w", replace(TINY, channels=1))
    code, _, told = unveil("train", "--init", start, "--out", tmp_path / "run", "--resume")
    assert code == 2
    assert "--init: expected a new run" in told
    code, _, told = unveil("train", "--preset", "adapt", "--data", noisy_folder, "--out", tmp_path / "run")
    assert code == 2
    assert "training.start: expected the network to adapt" in told
    code, _, told = unveil("train", "--init", start, "--data", noisy_folder, "--out", tmp_path / "run", *QUICK)
    assert code == 2
    assert "expected a grey picture, as the network of --init is for grey ones, found colour" in told


def measures(**changed: float) -> TrustMeasures:
    known = TrustMeasures(
        crops=16,
        bias=(0.0, 0.0, 0.0),
        bias_error=0.1,
        noise_sigma=10.0,
        flat=0.5,
        reliable=True,
        noise_correlation=(0.0,) * 5,
        residual_correlation=(0.0,) * 5,
        noise_passed=0.1,
        noise_left=0.2,
        structure_lost=0.2,
        detail_correlation=0.0,
        estimated_error=0.3,
        self_weight=0.1,
    )
    return replace(known, **changed)


@pytest.mark.parametrize(
    ("start", "adapted", "expected"),
    [
        ({}, {"noise_left": 0.1}, "adapted"),
        ({}, {"noise_left": 0.16}, "start"),  # too little to be sure of
        ({}, {"noise_left": 0.1, "bias": (9.0, 0.0, 0.0)}, "start"),  # fails the gate
        ({"bias": (9.0, 0.0, 0.0)}, {"noise_left": 0.1, "bias": (9.0, 0.0, 0.0)}, "adapted"),  # as the start does
        ({"bias": (9.0, 0.0, 0.0)}, {}, "start"),
        ({"noise_left": math.nan}, {}, "start"),
        ({}, {"noise_left": math.nan}, "start"),
    ],
)
def test_the_adapted_network_is_kept_only_if_it_is_better_by_the_trust_measures(start, adapted, expected):
    found = choose(measures(**start), measures(**adapted))
    assert found.kept == expected
    assert found.why
    assert "\n" not in found.why
    assert found.why.endswith("it takes 5% less to be sure of a gain") == (adapted == {"noise_left": 0.16})


def card_of(weights: Path) -> dict[str, object]:
    loaded: dict[str, object] = json.loads((weights / "model.json").read_text("utf-8"))
    return loaded


def test_a_run_that_does_not_help_holds_the_start_and_one_that_does_the_adapted_network(
    tmp_path, noisy_folder, unveil, monkeypatch
):
    from pipeline.tracking import connect

    start, run = network(tmp_path / "w"), tmp_path / "run"
    code, found, told = unveil("train", "--init", start, "--data", noisy_folder, "--out", run, *QUICK, "--json")
    assert code == 0, told
    assert found["kept"] == "start"
    assert f"the start is kept: {found['kept_why']}" in told
    assert (run / "weights" / "model.safetensors").read_bytes() == (start / "model.safetensors").read_bytes()
    about = card_of(run / "weights")
    assert about["sha256"] == card_of(start)["sha256"]
    assert about["inference"]["offset"] == "level"
    assert about["card"]["adaptation"]["kept"] == "start"
    assert about["card"]["gate"] == about["card"]["adaptation"]["gates"]["start"]
    adapted = card_of(run / "adapted")["sha256"]
    assert adapted != about["sha256"]
    tags = connect().MlflowClient().get_run(found["mlflow_run_id"]).data.tags
    assert tags["kept"] == "start"
    # The choice is made anew from the same measures, so a run that is resumed at its end ends the same.
    monkeypatch.setattr(kept, "LEAST_GAIN", -math.inf)
    code, found, told = unveil("train", "--out", run, "--resume", "--json")
    assert code == 0, told
    assert found["kept"] == "adapted"
    assert card_of(run / "weights")["sha256"] == adapted
    assert card_of(run / "weights")["card"]["teacher"]["sha256"] == about["sha256"]
