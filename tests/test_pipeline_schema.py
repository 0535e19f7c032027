"""Noise recipes in a configuration: specs within specs by dotted key, and errors that name the key."""

from __future__ import annotations

import pytest

from noise import CameraNoise, EldNoise, Gaussian, Mixture, Poisson, Sequence
from noise.levels import LevelLine, LevelTable, SensorLevels
from noise.steps import STEPS
from pipeline.config import check, dump, load_config
from pipeline.errors import UserError


def recipe_of(*overrides: str) -> object:
    config = load_config(preset="quick", overrides=overrides)
    assert check(dump(config)) == config
    return config.noise


@pytest.mark.parametrize("kind", STEPS)
def test_every_kind_of_noise_can_be_trained_on(kind: str) -> None:
    assert recipe_of(f"noise.kind={kind}") == STEPS[kind].spec()


@pytest.mark.parametrize(
    ("overrides", "recipe"),
    [
        (["noise.kind=camera", "noise.levels.shot=[1e-3, 1e-2]"], CameraNoise(levels=LevelLine(shot=(1e-3, 1e-2)))),
        (["noise.kind=camera", 'noise.levels.kind="sensor"'], CameraNoise(levels=SensorLevels())),
        (
            ["noise.kind=camera", "noise.levels.kind=sensor", "noise.levels.name=lg_g4"],
            CameraNoise(levels=SensorLevels(name="lg_g4")),
        ),
        (
            ["noise.kind=camera", "noise.levels.shot=[1e-3, 1e-2]", "noise.levels.kind=sensor"],
            CameraNoise(levels=SensorLevels()),
        ),
        (
            ["noise.kind=camera", 'noise.levels={kind="table", points=[[1e-3, 1e-6], [1e-2, 1e-4]]}'],
            CameraNoise(levels=LevelTable(points=((1e-3, 1e-6), (1e-2, 1e-4)))),
        ),
        (
            ["noise.kind=eld", "noise.camera=random", "noise.ratio=[50, 100]"],
            EldNoise(camera="random", ratio=(50, 100)),
        ),
        (["noise.kind=mixture", "noise.level=[1, 5]"], Mixture(level=(1, 5))),
        (
            ['noise={kind="sequence", steps=[{kind="poisson", eight_bit=false}, {sigma=[5, 5]}]}'],
            Sequence(steps=(Poisson(eight_bit=False), Gaussian(sigma=(5, 5)))),
        ),
    ],
)
def test_specs_within_specs_are_reached_by_dotted_keys(overrides: list[str], recipe: object) -> None:
    assert recipe_of(*overrides) == recipe


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("noise.kind=grain", "noise.kind: expected 'gaussian' or 'speckle' or .* or 'choice', found 'grain'"),
        ("noise.levels.kind=curve", "noise.levels.kind: expected 'line' or 'table' or 'sensor', found 'curve'"),
        ("noise.levels.shoot=[0, 1]", r"noise\.levels\.shoot: unknown key; did you mean 'shot'\?"),
        (
            "noise.levels.name=pixel",
            "noise.levels.name: unknown key; expected one of intercept, kind, shot, slope, std",
        ),
        ("noise.levels.shot=[1e-2, 1e-3]", "noise.levels.shot: must be a range 0 < lowest <= highest"),
        ('noise.levels={kind="sensor", name="pixl"}', "noise.levels.name: expected 'pixel', .* found 'pixl'"),
        ("noise.rendering.demosaic=menon", "noise.rendering.demosaic: expected 'bilinear' or 'malvar', found 'menon'"),
        ("noise.sensor.bits=3", "noise.sensor.bits: must be from 4 to 16, got 3"),
        ("noise.pattern=RGBG", "noise.pattern: expected 'RGGB', .* or 'random', found 'RGBG'"),
        (
            'noise={kind="sequence", steps=[{kind="poisson", eight_bits=false}]}',
            r"noise\.steps\.0\.eight_bits: unknown key; did you mean 'eight_bit'\?",
        ),
        (
            'noise={kind="sequence", steps=[{kind="gaussian"}, {kind="poison"}]}',
            "noise.steps.1.kind: expected 'gaussian' .* found 'poison'",
        ),
        (
            'noise={kind="sequence", steps=[{kind="poisson", alpha=[3, 2]}]}',
            "noise.steps.0.alpha: must be a range",
        ),
        (
            'noise={kind="sequence", steps=[{kind="camera", levels={kind="sensor", name="x"}}]}',
            "noise.steps.0.levels.name: expected 'pixel'",
        ),
        (
            'noise={kind="sequence", steps=[{kind="gaussian"}, {kind="camera"}]}',
            "noise.steps.1: camera must be the first step",
        ),
    ],
)
def test_a_mistake_is_one_line_with_the_dotted_key(override: str, message: str) -> None:
    with pytest.raises(UserError, match=f"^{message}") as caught:
        load_config(preset="quick", overrides=["noise.kind=camera", override])
    assert "\n" not in str(caught.value)
    assert "more)" not in str(caught.value)
