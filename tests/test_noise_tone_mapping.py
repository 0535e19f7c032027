"""Tone mapping of renderings: the curves' explicit values, one exposure for both, and broken pixels."""

import math

import pytest
import torch

from noise.tone_mapping import ToneMapping, exposure_of, finite_radiance, tone_map

OPERATORS = ["reinhard", "aces", "clip"]


def radiance(seed=0, side=64):
    return torch.exp(2 * torch.randn((3, side, side), generator=torch.Generator().manual_seed(seed)))


@pytest.mark.parametrize(
    ("operator", "value", "linear"),
    [
        ("reinhard", 1.0, 0.5),
        ("reinhard", 3.0, 0.75),
        ("clip", 0.25, 0.25),
        ("clip", 7.0, 1.0),
        ("aces", 1.0, 2.54 / 3.16),
        ("aces", 0.18, 0.18 * (2.51 * 0.18 + 0.03) / (0.18 * (2.43 * 0.18 + 0.59) + 0.14)),
    ],
)
def test_operators_have_their_published_values(operator, value, linear):
    got = tone_map(torch.tensor([value]), ToneMapping(operator=operator, transfer="gamma"), 1.0).item()
    assert got == pytest.approx(linear ** (1 / 2.2), abs=1e-6)
    got = tone_map(torch.tensor([value]), ToneMapping(operator=operator, transfer="srgb"), 1.0).item()
    assert got == pytest.approx(1.055 * linear ** (1 / 2.4) - 0.055, abs=1e-6)


@pytest.mark.parametrize("operator", OPERATORS)
@pytest.mark.parametrize("transfer", ["srgb", "gamma"])
def test_the_curve_rises_from_black_to_white(operator, transfer):
    values = torch.tensor([0.0, *torch.logspace(-6, 8, 200).tolist(), torch.finfo(torch.float32).max])
    curve = tone_map(values, ToneMapping(operator=operator, transfer=transfer), 2.0)
    assert torch.all(curve.diff() >= 0)
    assert curve[0] < 1e-3
    assert curve[-1] == pytest.approx(1.0, abs=1e-5)
    assert torch.all((curve >= 0) & (curve <= 1))


def test_exposure_brings_the_log_average_luminance_to_the_key():
    scene = radiance()
    factor = exposure_of(scene, 0.18)
    weights = torch.tensor([0.2126, 0.7152, 0.0722]).reshape(3, 1, 1)
    average = math.exp((scene * factor * weights).sum(0).log().mean().item())
    assert average == pytest.approx(0.18, rel=1e-5)
    assert exposure_of(scene * 50, 0.18) == pytest.approx(factor / 50, rel=1e-5)
    assert exposure_of(scene, None) == 1.0


def test_black_background_does_not_change_the_exposure_and_a_black_scene_has_one():
    scene = radiance()
    framed = torch.zeros(3, 100, 100)
    framed[:, :64, :64] = scene
    assert exposure_of(framed, 0.18) == pytest.approx(exposure_of(scene, 0.18), rel=1e-6)
    assert exposure_of(torch.zeros(3, 8, 8), 0.18) == 1.0


def test_only_nan_and_infinity_are_counted_and_all_is_repaired():
    scene = radiance(side=16)
    scene[0, 0, 0] = math.nan
    scene[:, 1, 1] = math.inf
    scene[2, 2, 2] = -math.inf
    scene[1, 3, 3] = -0.25
    repaired, count = finite_radiance(scene)
    assert count == 3
    assert torch.isfinite(repaired).all()
    assert repaired.min() >= 0
    assert repaired[0, 0, 0] == repaired[2, 2, 2] == repaired[1, 3, 3] == 0
    assert torch.isnan(scene[0, 0, 0])
    for operator in OPERATORS:
        mapped = tone_map(repaired, ToneMapping(operator=operator), 3.0)
        assert torch.isfinite(mapped).all()
        assert torch.all(mapped[:, 1, 1] > 0.999)
    untouched = radiance(side=16)
    assert torch.equal(finite_radiance(untouched)[0], untouched)


@pytest.mark.parametrize("key", [0.0, -1.0, math.inf, math.nan])
def test_a_key_that_is_no_brightness_is_refused(key):
    with pytest.raises(ValueError, match="key must be finite and > 0"):
        ToneMapping(key=key)
