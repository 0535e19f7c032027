"""The offset of a network from its noisy input: found within its error, told from noise, mended, never invented."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from models import InferenceSpec, Network, correct_offset, denoise, measure_offset

# A statistic that is N(0, 1) exceeds 5 with probability 6e-7.
SIGMAS = 5.0
STEP = 1 / 255


@pytest.fixture(scope="module")
def clean(photo: np.ndarray) -> Tensor:
    """A photograph without black and white, (3, 256, 256)."""
    return 0.2 + 0.6 * torch.from_numpy(photo.copy()).permute(2, 0, 1).float() / 255


def white(shape: torch.Size, sigma: float, seed: int) -> Tensor:
    return sigma * STEP * torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def correlated(shape: torch.Size, sigma: float, seed: int) -> Tensor:
    noise = F.pad(white(shape, sigma, seed)[None], (2, 2, 2, 2), mode="circular")
    return 5 * F.avg_pool2d(noise, 5, 1)[0]


def rms(image: Tensor) -> float:
    return 255 * image.square().mean().sqrt().item()


@pytest.mark.parametrize("noise", [white, correlated])
def test_a_known_offset_is_found_and_its_error_is_the_one_stated(clean: Tensor, noise) -> None:
    true = torch.tensor([3.0, -1.0, 0.25]) * STEP
    crop = clean[:, :128, :128]
    scores = []
    for seed in range(120):
        found = measure_offset(crop + noise(crop.shape, 15, seed), crop + true[:, None, None])
        assert found is not None
        assert found.used > 0.98
        scores.append((torch.tensor(found.mean) - true) / torch.tensor(found.standard_error))
    scores = torch.stack(scores)
    # A chi-square of n degrees of freedom has mean n and variance 2 n. Blocks of 16 pixels miss the correlation over
    # their borders: for means over 5 pixels a tenth of the variance along each axis.
    expected = 1.0 if noise is white else 1 / 0.9**2
    ratio = scores.square().mean().item()
    assert abs(ratio / expected - 1) < SIGMAS * math.sqrt(2 / scores.numel())
    assert abs(scores.mean().item()) < SIGMAS * math.sqrt(expected / scores.numel())


def test_small_offsets_are_significant_and_chance_is_not(clean: Tensor) -> None:
    noisy = clean + white(clean.shape, 15, 0)
    none, small = measure_offset(noisy, clean), measure_offset(noisy, clean + 0.5 * STEP)
    large = measure_offset(noisy, clean + 3 * STEP)
    assert none is not None
    assert small is not None
    assert large is not None
    assert [found.significant for found in (none, small, large)] == [False, True, True]
    assert [found.visible for found in (none, small, large)] == [False, False, True]
    assert none.smooth < 0.2 * STEP
    assert large.smooth == pytest.approx(3 * STEP, rel=0.05)


def test_an_offset_that_changes_over_the_image_shows_in_smooth_not_in_the_mean(clean: Tensor) -> None:
    ramp = torch.linspace(-6, 6, 256) * STEP
    found = measure_offset(clean + white(clean.shape, 15, 0), clean + ramp)
    assert found is not None
    assert max(map(abs, found.mean)) < 0.3 * STEP
    assert found.smooth == pytest.approx(6 / math.sqrt(3) * STEP, rel=0.05)
    assert found.visible


def test_noise_clipped_at_black_and_white_is_no_offset() -> None:
    steps = torch.tensor([0.0, 0.02, 0.5, 0.98, 1.0]).repeat_interleave(64)
    clean = steps.expand(3, 256, -1)
    noisy = (clean + white(clean.shape, 30, 0)).clamp(0, 1)
    # A perfect denoiser: the plain mean calls it 3 steps too dark or too bright at either end.
    ends = (noisy - clean)[..., :128].mean().item()
    assert ends > 3 * STEP
    found = measure_offset(noisy, clean)
    assert found is not None
    assert 0.1 < found.used < 0.25
    assert not found.visible
    assert max(map(abs, found.mean)) < 0.5 * STEP
    assert torch.equal(correct_offset(noisy, clean, "level"), clean)


@pytest.mark.parametrize("bright", [1.0, 0.9])
def test_dots_of_salt_and_pepper_and_hot_pixels_are_no_offset(clean: Tensor, bright: float) -> None:
    dark = 0.5 * clean
    uniform = torch.rand(clean.shape, generator=torch.Generator().manual_seed(0))
    noisy = dark.masked_fill(uniform < 0.005, 0.0).masked_fill(uniform > 0.99, bright)
    assert (noisy - dark).mean() > STEP
    found = measure_offset(noisy, dark)
    assert found is not None
    assert max(map(abs, found.mean)) < 0.05 * STEP
    assert not found.visible
    assert torch.equal(correct_offset(noisy, dark, "level"), dark)


ERRORS = {
    "brightness": lambda x: x + 4 * STEP,
    "colour": lambda x: x + torch.tensor([5.0, -3.0, 0.0])[:, None, None] * STEP,
    "contrast": lambda x: 0.5 + 0.9 * (x - 0.5),
    "gamma": lambda x: x**1.15,
    "saturation": lambda x: x.mean(0) + 0.6 * (x - x.mean(0)),
}


@pytest.mark.parametrize("kind", ERRORS)
@pytest.mark.parametrize("sigma", [5, 30])
def test_an_error_of_tone_or_colour_is_mended(clean: Tensor, kind: str, sigma: float) -> None:
    wrong = ERRORS[kind](clean)
    before = rms(wrong - clean)
    after = rms(correct_offset(clean + white(clean.shape, sigma, 0), wrong, "level") - clean)
    assert before > 2.9
    # Ten unknowns of noise sigma: sigma * sqrt(10 / 65536); the rest is what a second degree cannot say of a gamma.
    assert after < 3 * sigma * math.sqrt(10 / 65536) + 0.35
    assert torch.equal(correct_offset(clean, wrong, "keep"), wrong)


def test_a_small_error_is_left_alone_and_there_is_no_step_from_none_to_all(clean: Tensor) -> None:
    noisy = clean + white(clean.shape, 15, 0)

    def change(size: float) -> float:
        wrong = clean + size * STEP
        return rms(correct_offset(noisy, wrong, "level") - wrong)

    assert change(0) == change(0.8) == 0
    assert change(3) == pytest.approx(3, rel=0.05)
    near = [change(size) for size in np.arange(0.9, 2.2, 0.05)]
    # Of an offset d between 1 and 2 the part d - 1 is taken away, so the change d (d - 1) grows by at most 3 * 0.05.
    assert max(np.diff(near)) < 0.2
    assert min(np.diff(near)) > -0.05


def test_what_chance_alone_fits_to_a_small_image_is_left_out(clean: Tensor) -> None:
    crop = clean[:, 60:140, 60:140]
    changes = []
    for seed in range(40):
        noisy = crop + white(crop.shape, 30, seed)
        changes.append(rms(correct_offset(noisy, crop, "level") - crop))
    # Ten unknowns of noise 30 fit about 30 * sqrt(10 / 6400) = 1.2 by chance alone, more than the step from which on
    # something is done; a few of 40 may be above by as much again.
    assert np.mean(np.array(changes) > 0) < 0.2
    assert np.mean(changes) < 0.1


def test_the_mend_depends_on_colour_alone(clean: Tensor) -> None:
    wrong = (clean * 31).round() / 31 * 0.8
    mended = correct_offset(clean + white(clean.shape, 15, 0), wrong, "level")
    colours, place = torch.unique(wrong.flatten(1).T, dim=0, return_inverse=True)
    change = (mended - wrong).flatten(1).T
    assert change.abs().max() > 10 * STEP
    first = torch.zeros(len(colours), 3).index_copy_(0, place.flip(0), change.flip(0))
    torch.testing.assert_close(change, first[place], rtol=0, atol=1e-6)


@pytest.mark.parametrize("shape", [(1, 1), (3, 200), (16, 16), (31, 40)])
def test_small_images_are_not_measured_and_not_changed(shape: tuple[int, int]) -> None:
    image = torch.rand(3, *shape, generator=torch.Generator().manual_seed(0))
    assert measure_offset(image, image + 0.1) is None
    assert torch.equal(correct_offset(image, image + 0.1, "level"), image + 0.1)


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_an_image_that_is_clipped_everywhere_is_not_measured(value: float) -> None:
    image = torch.full((3, 128, 128), value)
    assert measure_offset(image, image + 0.1) is None


@pytest.mark.parametrize("channels", [1, 2, 4, 6])
def test_any_number_of_channels_is_measured_and_mended(channels: int, clean: Tensor) -> None:
    image = clean[:1, :128, :160].expand(channels, -1, -1)
    noisy = image + white(image.shape, 10, 0)
    found = measure_offset(noisy, 0.9 * image)
    assert found is not None
    assert len(found.mean) == channels
    assert rms(correct_offset(noisy, 0.9 * image, "level") - image) < 1


class Wrong(Network):
    """A network whose only error is a gain and a colour offset."""

    def __init__(self) -> None:
        super().__init__()
        self.channels, self.multiple, self.reach, self.stochastic = 3, 1, 0, False
        self.tint = torch.nn.Parameter(torch.tensor([0.05, 0.0, -0.03])[:, None, None])

    def forward(self, image: Tensor, **_: object) -> Tensor:
        return 0.9 * image + self.tint


def test_denoising_mends_the_whole_image_at_once_and_each_image_by_itself(clean: Tensor) -> None:
    batch = torch.stack([clean, clean.flip(0)])
    network = Wrong().eval()
    assert rms(denoise(network, batch, InferenceSpec()) - batch) > 5
    mended = denoise(network, batch, InferenceSpec(offset="level"))
    assert rms(mended - batch) < 0.5
    tiled = denoise(network, batch, InferenceSpec(offset="level"), tile=48)
    torch.testing.assert_close(tiled, mended, rtol=0, atol=1e-5)
    alone = denoise(network, batch[1:], InferenceSpec(offset="level"))
    assert torch.equal(alone[0], mended[1])
