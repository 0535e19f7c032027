"""What a sensor adds beside shot and read noise: which samples share it, how it scales, where it clips."""

import json
import math

import numpy as np
import pytest
import torch

from noise.sensor_effects import SensorEffects, add_hot_pixels, digitise, read_out, row_noise, vary_sensitivity
from noise.shot_read import NoiseLevel
from raw.cfa import CFA_PATTERNS
from raw.mosaic import unpack

LEVEL = NoiseLevel(shot=1e-3, read=1e-4)


def generator(seed=1):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("pattern", CFA_PATTERNS)
def test_a_row_of_the_mosaic_has_one_offset_for_both_its_colours(pattern):
    mosaic = unpack(row_noise(torch.zeros(4, 200, 30), 0.1, generator(), pattern), pattern)
    assert mosaic.shape == (400, 60)
    assert torch.equal(mosaic, mosaic[:, :1].expand_as(mosaic))
    rows = mosaic[:, 0].double().numpy()
    assert len(np.unique(rows)) == 400
    assert abs(rows.mean()) < 5 * 0.1 / math.sqrt(400)
    assert abs(rows.std() / 0.1 - 1) < 5 / math.sqrt(2 * 400)
    # Independent from row to row: a lag correlation of n normals has sd 1 / sqrt(n).
    for lag in (1, 2):
        assert abs(np.corrcoef(rows[:-lag], rows[lag:])[0, 1]) < 5 / math.sqrt(400)


def test_a_batch_has_rows_of_its_own_in_every_image():
    made = row_noise(torch.zeros(3, 4, 5, 6), 1.0, generator(), "RGGB")
    assert len(made[..., 0].unique()) == 3 * 10


@pytest.mark.parametrize("x", [0.05, 0.2, 0.8])
def test_prnu_adds_c_squared_x_squared_to_the_variance(x):
    light = torch.full((4, 256, 256), x, dtype=torch.float64)
    made = vary_sensitivity(light, 0.01, generator())
    want = (0.01 * x) ** 2
    assert abs(made.var().item() / want - 1) < 5 * math.sqrt(2 / light.numel())
    assert abs(made.mean().item() - x) < 5 * math.sqrt(want / light.numel())


def test_a_fraction_of_the_pixels_is_hot_by_an_exponential_excess():
    fraction, level = 0.01, 0.2
    excess = add_hot_pixels(torch.zeros(4, 512, 512), fraction, level, generator()).flatten().numpy()
    hot = excess[excess > 0]
    assert abs(len(hot) / len(excess) - fraction) < 5 * math.sqrt(fraction / len(excess))
    assert excess.min() == 0
    # Dvoretzky-Kiefer-Wolfowitz at odds of 1e-5.
    distance = np.abs(1 - np.exp(-np.sort(hot) / level) - np.arange(1, len(hot) + 1) / len(hot)).max()
    assert distance < math.sqrt(math.log(2e5) / (2 * len(hot))) + 1 / len(hot)


def test_rounding_adds_a_twelfth_of_a_step_squared():
    values = torch.rand((400_000,), generator=generator(), dtype=torch.float64) * 0.8
    error = digitise(values, 64, 1023) - values
    step = 1 / (1023 - 64)
    assert error.abs().max() <= step / 2 * (1 + 1e-9)
    # For a uniform error the sample variance has relative sd sqrt((1.8 - 1) / n).
    assert abs(error.var().item() / (step**2 / 12) - 1) < 5 * math.sqrt(0.8 / len(values))
    assert abs(error.mean().item()) < 5 * step / math.sqrt(12 * len(values))


def test_digital_numbers_are_whole_and_within_black_and_white():
    made = digitise(torch.linspace(-1, 2, 4001, dtype=torch.float64), 64, 1023)
    numbers = made * (1023 - 64) + 64
    torch.testing.assert_close(numbers, numbers.round(), rtol=0, atol=1e-9)
    assert numbers.round().min() == 0
    assert made.max() == 1
    assert made.min() == -64 / (1023 - 64)


def test_a_pedestal_keeps_the_mean_of_the_shadows():
    dark = torch.zeros(4, 256, 256, dtype=torch.float64)
    noisy = LEVEL.add(dark, generator())
    sd = math.sqrt(LEVEL.read)
    allowed = 5 * sd / math.sqrt(dark.numel())
    assert abs(digitise(noisy, 600, 4095).mean().item()) < allowed
    # Without one, half of the noise is cut off: the mean of max(n, 0) is sd / sqrt(2 pi).
    assert abs(digitise(noisy, 0, 4095).mean().item() - sd / math.sqrt(2 * math.pi)) < allowed


def drawn(spec, seed=1):
    return json.loads(json.dumps(spec.draw(generator(seed), LEVEL)))


def test_effects_that_are_off_draw_nothing():
    ours, untouched = generator(), generator()
    assert SensorEffects().draw(ours, LEVEL) is None
    assert torch.rand((), generator=ours) == torch.rand((), generator=untouched)


def test_row_noise_and_colour_bias_are_multiples_of_the_read_noise():
    spec = SensorEffects(rows=(0.2, 0.2), colour_bias=(0.5, 0.5))
    unit = math.sqrt(LEVEL.read)
    values = [drawn(spec, seed) for seed in range(500)]
    assert values[0]["row_std"] == pytest.approx(0.2 * unit)
    offsets = np.array([value["offsets"] for value in values])
    assert abs(offsets.std() / (0.5 * unit) - 1) < 5 / math.sqrt(2 * offsets.size)
    assert abs(offsets.mean()) < 5 * 0.5 * unit / math.sqrt(offsets.size)
    limit = 5 / math.sqrt(500)
    assert np.abs(np.corrcoef(offsets.T) - np.eye(4)).max() < limit, "the planes are independent"


def test_ranges_are_drawn_uniformly():
    values = np.array([drawn(SensorEffects(prnu=(0.005, 0.01)), seed)["prnu"] for seed in range(500)])
    assert 0.005 <= values.min() < 0.0051
    assert 0.0099 < values.max() <= 0.01
    assert abs(values.mean() - 0.0075) < 5 * 0.005 / math.sqrt(12 * 500)


def test_readout_adds_hot_pixels_rows_and_bias_before_the_converter():
    sensor = {"hot_fraction": 0.0, "hot_level": 0.2, "row_std": 0.0, "offsets": [0.1, 0.0, 0.0, -0.1]}
    sensor |= {"bits": 4, "black": 3}
    made = read_out(torch.full((4, 2, 2), 0.5), sensor, generator(), "RGGB")
    # In DN of a range of 12: 3 + 6 + 1.2 = 10.2, 9, 9, 7.8.
    expected = (torch.tensor([10.0, 9.0, 9.0, 8.0]) - 3) / 12
    torch.testing.assert_close(made[:, 0, 0], expected)
    hot = read_out(torch.zeros(4, 64, 64), {**sensor, "hot_fraction": 1.0, "hot_level": 50.0}, generator(), "RGGB")
    assert hot.max() == 1, "a hot pixel saturates at white"


def test_everything_together_comes_again_from_its_json():
    spec = SensorEffects(prnu=(0.01, 0.02), hot_pixels=(0.01, 0.02), rows=(0, 1), colour_bias=(0, 1), bits=10, black=64)
    sensor = drawn(spec)
    raw = torch.rand((4, 16, 16), generator=generator())
    first, second = (read_out(raw, sensor, generator(sensor["seed"]), "GBRG") for _ in range(2))
    assert torch.equal(first, second)


def test_arrays_are_taken_and_returned():
    raw = np.random.default_rng(1).random((4, 8, 8), dtype=np.float32)
    for made in (
        row_noise(raw, 0.1, generator(), "RGGB"),
        vary_sensitivity(raw, 0.1, generator()),
        add_hot_pixels(raw, 0.1, 0.2, generator()),
        digitise(raw, 64, 1023),
    ):
        assert isinstance(made, np.ndarray)
        assert made.dtype == np.float32


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"prnu": (0.02, 0.01)}, "prnu must be a range 0 <= lowest <= highest <= 1"),
        ({"hot_pixels": (0.0, 1.5)}, "hot_pixels must be a range"),
        ({"rows": (-0.1, 0.1)}, "rows must be a range"),
        ({"hot_level": math.inf}, "hot_level must be finite"),
        ({"black": 64}, "black is in digital numbers, so 64 needs bits"),
        ({"bits": 3}, "bits must be from 4 to 16, got 3"),
        ({"bits": 10, "black": 512}, "black must be from 0 to half of white, 511, got 512"),
    ],
)
def test_a_sensor_that_cannot_be_is_refused(values, message):
    with pytest.raises(ValueError, match=message):
        SensorEffects(**values)
