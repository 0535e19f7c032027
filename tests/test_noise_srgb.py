"""The test noises of the masked-training paper, formula by formula: variance, shape, range, explicit values."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from noise import Gaussian, Poisson, SaltPepper, Spatial, Speckle, corrupt
from noise.display import rounded_to_8_bit
from noise.poisson import add_poisson, amplified, photons_at_white
from noise.recipe import reproduce
from noise.salt_pepper import add_salt_pepper
from noise.spatial import add_spatial
from noise.speckle import add_speckle
from noise.srgb import add_gaussian

ORACLES = Path(__file__).parent / "oracles"
KODAK = Path(__file__).parents[2] / "shared" / "data" / "dev" / "kodak24"
SIDE = 256
ADD = {
    "gaussian": add_gaussian,
    "speckle": add_speckle,
    "poisson": add_poisson,
    "spatial": add_spatial,
    "salt_pepper": add_salt_pepper,
}
EVERY = [Gaussian(eight_bit=True), Speckle(), Poisson(), Spatial(), SaltPepper()]


def flat(level, dtype=torch.float64):
    return torch.full((3, SIDE, SIDE), level, dtype=dtype)


def noise_of(recipe, clean, seed=1):
    """What the formula adds, before clipping and rounding, (3, H, W) float64."""
    made = corrupt(clean, recipe, torch.Generator().manual_seed(seed))
    return (made.noisy - clean).double().numpy()


def allowed(variance, kurtosis, n, sds=5):
    """5 standard deviations of the sample variance of n independent samples."""
    return sds * variance * math.sqrt((kurtosis - 1) / n)


@pytest.mark.parametrize("level", [0.1, 0.5, 0.9])
@pytest.mark.parametrize(("distribution", "kurtosis"), [("uniform", 1.8), ("normal", 3.0)])
def test_speckle_has_variance_v_times_the_image_squared(level, distribution, kurtosis):
    recipe = Speckle(variance=(0.04, 0.04), distribution=distribution, eight_bit=False)
    noise = noise_of(recipe, flat(level))
    want = 0.04 * level**2
    assert abs(noise.var() - want) < allowed(want, kurtosis, noise.size)
    assert abs(noise.mean()) < 5 * math.sqrt(want / noise.size)


def test_speckle_is_uniform_as_in_matlab_and_leaves_black_alone():
    noise = noise_of(Speckle(variance=(0.03, 0.03), eight_bit=False), flat(1.0))
    width = math.sqrt(12 * 0.03)
    assert np.abs(noise).max() <= width / 2
    assert np.abs(noise).max() > width / 2 * (1 - 1e-3)
    # The share beyond half the width: half of the samples, binomial, 5 sd.
    assert abs((np.abs(noise) > width / 4).mean() - 0.5) < 5 * 0.5 / math.sqrt(noise.size)
    assert noise_of(Speckle(), flat(0.0)).any() == 0


def test_speckle_follows_imnoise_s_arithmetic():
    clean = torch.tensor([0.2, 0.8]).reshape(1, 1, 2)
    parameters = {"variance": 0.024, "distribution": "uniform", "eight_bit": False, "seed": 5}
    uniform = torch.rand((1, 1, 2), generator=torch.Generator().manual_seed(5))
    expected = clean + math.sqrt(12 * 0.024) * clean * (uniform - 0.5)
    torch.testing.assert_close(add_speckle(clean, parameters).noisy, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("level", [51, 128, 230])
@pytest.mark.parametrize("alpha", [1.0, 3.5])
def test_poisson_has_variance_alpha_squared_times_the_image_over_256(level, alpha):
    noise = noise_of(Poisson(alpha=(alpha, alpha), white=256, eight_bit=False), flat(level / 255))
    rate = 256 * level / 255
    want = alpha**2 * (level / 255) / 256
    assert abs(noise.var() - want) < allowed(want, 3 + 1 / rate, noise.size)
    assert abs(noise.mean()) < 5 * math.sqrt(want / noise.size)
    # Poisson, not a Gaussian of the same variance: its skewness is 1 / sqrt(rate); sd of a skewness sqrt(6 / n).
    skewness = ((noise / math.sqrt(want)) ** 3).mean()
    assert abs(skewness - 1 / math.sqrt(rate)) < 5 * math.sqrt(6 / noise.size) * 1.5


def test_poisson_matches_the_paper_s_own_code():
    data = np.load(ORACLES / "masked_training_poisson.npz")
    image = torch.from_numpy(data["image"]) / 255
    assert photons_at_white(image) == 256
    counts = torch.from_numpy(np.random.RandomState(11).poisson(data["image"] / 255.0 * 256))
    noisy = amplified(image, counts, 2.0, 256)
    np.testing.assert_allclose(noisy.clamp(0, 1), data["noisy"], rtol=0, atol=1e-6)
    rounded = (rounded_to_8_bit(noisy) * 255).round().numpy()
    assert np.mean(rounded != data["noisy_8_bit"]) < 2e-3


def test_poisson_counts_whole_photons():
    clean = torch.rand((3, 64, 64), generator=torch.Generator().manual_seed(2))
    made = corrupt(clean, Poisson(alpha=(2.0, 2.0), white=100, eight_bit=False), torch.Generator().manual_seed(3))
    image = (clean * 255).round() / 255
    counts = ((made.noisy - image) / 2 + image) * 100
    np.testing.assert_allclose(counts, counts.round(), rtol=0, atol=1e-3)
    assert made.parameters["white"] == 100


@pytest.mark.parametrize(("distinct", "white"), [(1, 1), (2, 2), (3, 4), (128, 128), (129, 256), (256, 256)])
def test_poisson_takes_white_from_the_number_of_distinct_bytes(distinct, white):
    values = torch.arange(distinct, dtype=torch.uint8).repeat(2).reshape(1, 2, -1)
    made = add_poisson(values, Poisson().draw(torch.Generator().manual_seed(0)))
    assert made.parameters["white"] == white
    again = reproduce(values, made.parameters)
    assert torch.equal(again.noisy, made.noisy)


def test_spatial_noise_is_a_third_of_sigma_and_correlated_over_two_pixels_up_to_the_border():
    noise = np.stack([noise_of(Spatial(sigma=(45.0, 45.0), eight_bit=False), flat(0.5), seed)[0] for seed in range(12)])
    # Nine pixels share a draw, so every ninth sample counts: 5 sd of a variance and of a correlation.
    effective = noise.size / 9
    std = 45 / 255 / 3
    assert abs(noise.std() - std) < 5 * std / math.sqrt(2 * effective)
    for down in range(4):
        for right in range(4):
            want = max(3 - down, 0) * max(3 - right, 0) / 9
            product = noise[:, : SIDE - down, : SIDE - right] * noise[:, down:, right:]
            assert abs(product.mean() / std**2 - want) < 5 / math.sqrt(effective)
    edge = np.concatenate([noise[:, 0], noise[:, -1], noise[:, :, 0], noise[:, :, -1]], axis=None)
    assert abs(edge.std() - std) < 5 * std / math.sqrt(2 * edge.size / 3)


def test_spatial_noise_is_the_mean_of_nine_draws_and_independent_between_channels():
    parameters = {"sigma": 255.0, "eight_bit": False, "seed": 9}
    white = torch.randn((2, 5, 6), generator=torch.Generator().manual_seed(9))
    made = add_spatial(torch.zeros(2, 3, 4), parameters).noisy
    assert made[1, 2, 3].item() == pytest.approx(white[1, 2:5, 3:6].mean().item(), abs=1e-6)
    noise = noise_of(Spatial(eight_bit=False), flat(0.5)).reshape(3, -1)
    assert np.abs(np.corrcoef(noise) - np.eye(3)).max() < 5 / math.sqrt(noise.shape[1] / 9)


@pytest.mark.parametrize("density", [0.002, 0.02, 0.5])
def test_salt_and_pepper_takes_half_its_density_each_from_every_channel_alone(density):
    noisy = corrupt(
        flat(0.4), SaltPepper(density=(density, density), eight_bit=False), torch.Generator().manual_seed(4)
    ).noisy
    for value in (0.0, 1.0):
        share = (noisy == value).double().mean().item()
        assert abs(share - density / 2) < 5 * math.sqrt(density / 2 / noisy.numel())
    assert set(noisy.unique().tolist()) == {0.0, 0.4, 1.0}
    # Coloured dots: a pixel lost in red is lost in green no more often than any other.
    lost = (noisy != 0.4).double()
    both = (lost[0] * lost[1]).mean().item()
    assert abs(both - density**2) < 5 * math.sqrt(density**2 / SIDE**2) + 5 / SIDE**2


def test_salt_and_pepper_puts_pepper_below_half_the_density():
    uniform = torch.rand((1, 1, 400), generator=torch.Generator().manual_seed(8))
    noisy = add_salt_pepper(torch.full((1, 1, 400), 0.5), {"density": 0.4, "eight_bit": False, "seed": 8}).noisy
    assert torch.equal(noisy == 0, uniform < 0.2)
    assert torch.equal(noisy == 1, (uniform >= 0.2) & (uniform < 0.4))


@pytest.mark.parametrize("recipe", EVERY)
def test_the_noisy_image_has_the_256_values_of_the_paper_s_files(recipe):
    clean = (torch.rand((3, 64, 64), generator=torch.Generator().manual_seed(6)) * 255).round() / 255
    noisy = corrupt(clean, recipe, torch.Generator().manual_seed(7)).noisy * 255
    assert (noisy - noisy.round()).abs().max() < 1e-4
    assert noisy.min() >= 0
    assert noisy.max() <= 255


@pytest.mark.parametrize("recipe", EVERY)
def test_bytes_and_floats_are_corrupted_alike(recipe):
    clean = (torch.rand((3, 40, 30), generator=torch.Generator().manual_seed(6)) * 255).to(torch.uint8)
    made = [corrupt(image, recipe, torch.Generator().manual_seed(2)) for image in (clean, clean / 255)]
    assert torch.equal(made[0].noisy, made[1].noisy)
    assert torch.equal(made[0].clean, clean / 255)


@pytest.mark.parametrize("recipe", EVERY)
def test_grey_images_and_other_memory_layouts_are_fine(recipe):
    clean = torch.rand((1, 30, 40), generator=torch.Generator().manual_seed(6))
    turned = clean.transpose(1, 2).contiguous().transpose(1, 2)
    made = [corrupt(image, recipe, torch.Generator().manual_seed(2)).noisy for image in (clean, turned)]
    assert torch.equal(made[0], made[1])


@pytest.mark.parametrize("recipe", EVERY)
def test_levels_are_drawn_from_their_range(recipe):
    (name,) = (name for name in ("sigma", "variance", "alpha", "density") if hasattr(recipe, name))
    wide = type(recipe)(**{name: (0.01, 0.03)})
    generator = torch.Generator().manual_seed(6)
    values = np.array([wide.draw(generator)[name] for _ in range(1000)])
    assert 0.01 <= values.min() < 0.0103
    assert 0.0297 < values.max() <= 0.03
    assert abs(values.mean() - 0.02) < 5 * 0.02 / math.sqrt(12 * 1000)


@pytest.mark.skipif(not KODAK.is_dir(), reason="needs ../shared")
@pytest.mark.parametrize(
    ("recipe", "variance"),
    [
        (Poisson(alpha=(2.0, 2.0), eight_bit=False), lambda image: 4 * image.mean() / 256),
        (Speckle(variance=(0.024, 0.024), eight_bit=False), lambda image: 0.024 * (image**2).mean()),
        (Spatial(sigma=(50.0, 50.0), eight_bit=False), lambda image: image.new_tensor((50 / 255 / 3) ** 2)),
        (
            SaltPepper(density=(0.02, 0.02)),
            lambda image: 0.01 * (image**2).mean() + 0.01 * ((1 - image) ** 2).mean(),
        ),
    ],
)
def test_the_error_on_a_photo_is_what_its_content_predicts(recipe, variance):
    from PIL import Image

    clean = torch.from_numpy(np.asarray(Image.open(KODAK / "kodim05.png")).transpose(2, 0, 1).copy()) / 255
    error = ((corrupt(clean, recipe, torch.Generator().manual_seed(1)).noisy - clean) ** 2).double()
    # Squared errors, correlated over 3x3 pixels at most: 5 sd of their mean.
    tolerance = 5 * error.std().item() * 3 / math.sqrt(error.numel())
    assert abs(error.mean().item() - variance(clean.double()).item()) < tolerance
