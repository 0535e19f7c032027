"""Low-light noise source by source: variances in DN, shared rows, the pedestal, and the calibrated distributions."""

import json
import math

import numpy as np
import pytest
import torch
from scipy.stats import kstest

from noise import tukey_lambda
from noise.eld import DarkExposure, EldNoise, add_eld_noise
from noise.sensors import CAMERAS, ELD_BLACK, ELD_RANGE
from raw.cfa import CFA_PATTERNS
from raw.isp import process
from raw.mosaic import unpack

PARTS = {
    "gain": 0.0,  # no shot noise
    "ratio": 1.0,
    "read_scale": 0.0,
    "read_shape": None,
    "row_std": 0.0,
    "offsets": (0.0,) * 4,
    "quantise": False,
}


def generator(seed=1):
    return torch.Generator().manual_seed(seed)


def in_dn(x, shape=(4, 300, 300), pattern="RGGB", dtype=torch.float64, **parts):
    exposure = DarkExposure(**{**PARTS, **parts})
    made = exposure.add(torch.full(shape, x, dtype=dtype), generator(), pattern)
    return (made / exposure.ratio * ELD_RANGE).numpy()


@pytest.mark.parametrize(
    ("parts", "variance", "excess"),
    [
        ({"gain": 2.0}, 2.0 * 100, 4.0 * 2 / 200),
        ({"read_scale": 5.0}, 25.0, 0.0),
        ({"read_scale": 5.0, "read_shape": 0.1}, 25 * tukey_lambda.variance(0.1), 0.3),
        ({"read_scale": 5.0, "read_shape": -0.1}, 25 * tukey_lambda.variance(-0.1), 6.0),
        ({"gain": 2.0, "read_scale": 3.0}, 2.0 * 100 + 9, 0.1),
        ({"quantise": True, "read_scale": 1.0}, 1 + 1 / 12, 0.0),
    ],
)
def test_every_source_has_its_variance_in_digital_numbers(parts, variance, excess):
    x = 100 / ELD_RANGE
    values = in_dn(x, **parts) - 100
    # A sample variance has variance (excess kurtosis + 2) var^2 / n.
    assert abs(values.var() / variance - 1) < 5 * math.sqrt((2 + excess) / values.size)
    assert abs(values.mean()) < 5 * math.sqrt(variance / values.size)


@pytest.mark.parametrize("pattern", CFA_PATTERNS)
def test_row_noise_is_one_offset_for_each_row_of_the_mosaic(pattern):
    values = in_dn(0.0, shape=(4, 150, 40), pattern=pattern, row_std=3.0)
    rows = unpack(torch.from_numpy(values), pattern).numpy()
    np.testing.assert_allclose(rows, rows[:, :1].repeat(80, axis=1), atol=1e-9)
    assert abs(rows[:, 0].std() / 3 - 1) < 5 / math.sqrt(2 * 300)


def test_colour_bias_is_one_offset_for_each_plane():
    values = in_dn(0.0, offsets=(1.5, -2.0, 0.25, 4.0))
    np.testing.assert_allclose(values.mean(axis=(1, 2)), [1.5, -2.0, 0.25, 4.0], atol=1e-9)


def test_values_are_whole_numbers_around_the_black_pedestal():
    values = in_dn(0.0, quantise=True, read_scale=400.0) + ELD_BLACK
    np.testing.assert_allclose(values, np.round(values), atol=1e-8)
    assert values.min() == 0, "the pedestal of 800 is two deviations: some noise lies below it"
    assert (values < ELD_BLACK).mean() > 0.45


def test_noise_below_black_survives_so_that_shadows_keep_their_mean():
    values = in_dn(0.0, quantise=True, read_scale=10.0, read_shape=0.1)
    sd = math.sqrt(100 * tukey_lambda.variance(0.1) + 1 / 12)
    assert abs(values.mean()) < 5 * sd / math.sqrt(values.size)


def test_the_image_is_darkened_before_the_sensor_and_brightened_after_it():
    x, ratio, gain = 0.4, 200.0, 1.5
    exposure = DarkExposure(**{**PARTS, "gain": gain, "ratio": ratio})
    made = exposure.add(torch.full((4, 300, 300), x, dtype=torch.float64), generator(), "RGGB").numpy()
    # K x / ratio in DN^2, times ratio^2.
    want = gain * x * ratio / ELD_RANGE
    photons = x * ELD_RANGE / ratio / gain
    assert abs(made.mean() - x) < 5 * math.sqrt(want / made.size)
    assert abs(made.var() / want - 1) < 5 * math.sqrt((2 + 1 / photons) / made.size)


def test_the_sensor_clips_at_white_before_it_is_brightened():
    exposure = DarkExposure(**{**PARTS, "ratio": 0.5})
    made = exposure.add(torch.ones(4, 8, 8), generator(), "RGGB")
    assert torch.equal(made, torch.full_like(made, 0.5))


@pytest.mark.parametrize("name", CAMERAS)
@pytest.mark.parametrize("read", ["tukey_lambda", "gaussian"])
def test_scales_follow_the_calibration(name, read):
    source, count, odds = generator(3), 1500, 1e-5
    drawn = [EldNoise(camera=name, read=read).draw_exposure(source)[1] for _ in range(count)]
    calibration = CAMERAS[name]
    gain = np.log([exposure.gain for exposure in drawn])
    low, high = np.log(calibration.gain)
    assert kstest(gain, "uniform", args=(low, high - low)).pvalue > odds
    assert kstest([exposure.ratio for exposure in drawn], "uniform", args=(100, 200)).pvalue > odds
    for line, values in ((getattr(calibration, read), "read_scale"), (calibration.row, "row_std")):
        residual = np.log([getattr(exposure, values) for exposure in drawn]) - (line.slope * gain + line.bias)
        assert kstest(residual, "norm", args=(0, line.sigma)).pvalue > odds
    shapes = [exposure.read_shape for exposure in drawn]
    if read == "gaussian":
        assert set(shapes) == {None}
    else:
        first, last = calibration.shape
        assert kstest(shapes, "uniform", args=(first, last - first)).pvalue > odds


def test_the_table_is_the_published_one_for_the_sony():
    sony = CAMERAS["A7S2"]
    assert sony.gain == (0.094, 6.01)
    assert sony.tukey_lambda == (0.462, 0.566, 0.263)
    assert sony.shape == (-0.143, 0.129)


def test_a_random_camera_is_drawn_for_each_image():
    source = generator()
    names = [EldNoise(camera="random").draw(source)["sensor"] for _ in range(300)]
    for name in CAMERAS:
        assert abs(names.count(name) / 300 - 0.2) < 5 * math.sqrt(0.2 * 0.8 / 300)


def test_switching_a_source_off_leaves_the_rest_of_the_exposure():
    full = EldNoise().draw(generator())
    bare = EldNoise(rows=False, quantise=False).draw(generator())
    assert bare["exposure"] == {**full["exposure"], "row_std": 0.0, "quantise": False}
    assert bare["seed"] == full["seed"]


@pytest.mark.parametrize("recipe", [EldNoise(), EldNoise(camera="random", read="gaussian", pattern="random")])
def test_parameters_bring_back_the_same_bits(recipe):
    clean = torch.rand((3, 33, 48), generator=generator())
    parameters = recipe.draw(generator(5))
    made = add_eld_noise(clean, parameters)
    again = add_eld_noise(clean, json.loads(json.dumps(parameters, allow_nan=False)))
    assert torch.equal(made.noisy, again.noisy)
    assert torch.equal(made.clean, again.clean)
    assert made.noisy.shape == made.clean.shape == clean.shape


def test_the_clean_partner_has_all_its_light():
    from noise.finish import camera_of, photograph

    clean = torch.rand((3, 32, 32), generator=generator())
    parameters = EldNoise().draw(generator(6))
    camera = camera_of(parameters, clean.device)
    assert torch.equal(add_eld_noise(clean, parameters).clean, process(photograph(clean, camera), camera))


def test_arrays_are_taken_and_returned():
    exposure, raw = DarkExposure(**{**PARTS, "gain": 2.0}), np.full((4, 8, 8), 0.3, dtype=np.float32)
    made = exposure.add(raw, generator(), "RGGB")
    assert isinstance(made, np.ndarray)
    np.testing.assert_array_equal(made, exposure.add(torch.from_numpy(raw), generator(), "RGGB").numpy())


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"camera": "D40"}, "camera must be one of 5D4, 700D, 70D, D850, A7S2, random; got 'D40'"),
        ({"ratio": (300.0, 100.0)}, "ratio must be a range 0 < lowest"),
        ({"read": "laplace"}, "read must be tukey_lambda or gaussian"),
        ({"colour_bias": -1.0}, "colour_bias must be finite"),
        ({"pattern": "RGBG"}, "pattern must be one of RGGB, BGGR, GRBG, GBRG, random; got 'RGBG'"),
    ],
)
def test_a_recipe_that_cannot_be_is_refused(values, message):
    with pytest.raises(ValueError, match=message):
        EldNoise(**values)
