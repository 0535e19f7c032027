"""Tone curves against float64 values, and each against its inverse."""

from pathlib import Path

import numpy as np
import pytest
import torch

from raw.tone import (
    gamma_compression,
    gamma_expansion,
    inverse_smoothstep,
    linearize,
    smoothstep,
    srgb_compression,
    srgb_expansion,
)

ORACLES = Path(__file__).parent / "oracles"


@pytest.mark.parametrize(
    ("function", "name", "atol"),
    [
        (inverse_smoothstep, "inverse_smoothstep", 2e-5),
        (gamma_expansion, "gamma_expansion", 2e-7),
        (gamma_compression, "gamma_compression", 2e-7),
        (linearize, "inverse_smoothstep_then_gamma_expansion", 4e-7),
    ],
)
def test_curve_equals_float64(function, name, atol):
    data = np.load(ORACLES / "rawsynth_curves.npz")
    result = function(torch.from_numpy(data["x"])).double()
    torch.testing.assert_close(result, torch.from_numpy(data[f"{name}_f64"]), rtol=0, atol=atol)


def test_inverse_smoothstep_is_accurate_above_one_hundredth_of_a_byte():
    data = np.load(ORACLES / "rawsynth_curves.npz")
    x = torch.from_numpy(data["x"])
    error = inverse_smoothstep(x).double() - torch.from_numpy(data["inverse_smoothstep_f64"])
    assert error[x >= 1e-5].abs().max() < 2e-6


@pytest.mark.parametrize(
    ("forward", "backward"),
    [(smoothstep, inverse_smoothstep), (gamma_compression, gamma_expansion), (srgb_compression, srgb_expansion)],
)
def test_inverse_pairs_return_their_input(forward, backward):
    x = torch.linspace(1e-3, 1.0, 500, dtype=torch.float64)
    torch.testing.assert_close(backward(forward(x)), x, rtol=0, atol=1e-9)
    torch.testing.assert_close(forward(backward(x)), x, rtol=0, atol=1e-9)


def test_the_byte_table_holds_the_chain_exactly():
    levels = torch.arange(256, dtype=torch.uint8).view(1, 16, 16)
    expected = gamma_expansion(inverse_smoothstep(levels.float() / 255.0))
    # Vector and scalar code of one library differ in the last bit.
    torch.testing.assert_close(linearize(levels), expected, rtol=1e-6, atol=0)


def test_the_srgb_curve_has_the_values_of_its_standard():
    linear = torch.tensor([0.0, 0.001, 0.0031308, 0.0031309, 0.5, 1.0], dtype=torch.float64)
    expected = [0.0, 0.01292, 0.040449936, 0.0404509, 0.735356983, 1.0]
    torch.testing.assert_close(srgb_compression(linear), torch.tensor(expected).double(), rtol=0, atol=1e-6)
    single = srgb_compression(linear.float()).double()
    torch.testing.assert_close(single, srgb_compression(linear), rtol=0, atol=4e-7)
