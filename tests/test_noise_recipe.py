"""Recipes: what they make, that a manifest reproduces it, and what they refuse."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from noise import Choice, Correlated, EldNoise, Gaussian, Mixture, Poisson, SaltPepper, Sequence, Spatial, Speckle
from noise.camera_noise import CameraNoise
from noise.levels import LevelLine, LevelTable, SensorLevels
from noise.recipe import corrupt, corrupt_batch, recipe_from_dict, recipe_to_dict, reproduce
from noise.sensor_effects import SensorEffects
from raw.camera import Camera
from raw.isp import process, unprocess
from raw.rendering import Rendering

ORACLES = Path(__file__).parent / "oracles"
RECIPES = [
    Gaussian(sigma=(5.0, 50.0)),
    Gaussian(sigma=(25.0, 25.0), clip=False),
    Speckle(variance=(0.01, 0.04)),
    Speckle(distribution="normal", eight_bit=False),
    Poisson(alpha=(1.0, 3.0)),
    Poisson(white=100),
    Spatial(sigma=(40.0, 60.0)),
    SaltPepper(density=(0.01, 0.3)),
    Mixture(level=(1, 5)),
    CameraNoise(levels=LevelLine(shot=(1e-3, 1e-2))),
    CameraNoise(
        levels=LevelTable(points=((1e-3, 1e-6), (1e-2, 1e-4)), std=0.1),
        photons="poisson",
        pattern="random",
        rendering=Rendering(demosaic="malvar", transfer="srgb", tone="smoothstep"),
        sensor=SensorEffects(prnu=(0.0, 0.01), rows=(0.1, 0.2), bits=12, black=128),
        jpeg=(60.0, 90.0),
        resize=(0.5, 0.9),
    ),
    CameraNoise(levels=SensorLevels(name="random_phone")),
    EldNoise(camera="random"),
    Sequence(steps=(CameraNoise(levels=SensorLevels(name="pixel")), Spatial(eight_bit=False), Mixture(level=(2, 2)))),
    Correlated(sigma=(5.0, 30.0), jpeg=(70.0, 95.0)),
    Choice(recipes=(Gaussian(sigma=(5.0, 50.0)), CameraNoise(), Correlated()), shares=(1.0, 2.0, 1.0)),
]


def image(height=24, width=32, seed=0):
    return torch.rand((3, height, width), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("recipe", RECIPES)
def test_stored_parameters_reproduce_the_pair(recipe):
    clean = image()
    made = corrupt(clean, recipe, torch.Generator().manual_seed(3))
    again = reproduce(clean, json.loads(json.dumps(made.parameters, allow_nan=False)))
    assert torch.equal(made.noisy, again.noisy)
    assert torch.equal(made.clean, again.clean)


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_generator_alone_decides(recipe):
    clean = image()
    kept = clean.clone()
    torch.manual_seed(0)
    first = corrupt(clean, recipe, torch.Generator().manual_seed(3))
    torch.manual_seed(1)
    same = corrupt(clean, recipe, torch.Generator().manual_seed(3))
    other = corrupt(clean, recipe, torch.Generator().manual_seed(4))
    assert torch.equal(first.noisy, same.noisy)
    assert not torch.equal(first.noisy, other.noisy)
    assert torch.equal(clean, kept)


@pytest.mark.parametrize("recipe", RECIPES)
def test_consecutive_draws_from_one_generator_differ(recipe):
    generator = torch.Generator().manual_seed(3)
    first, second = (corrupt(image(), recipe, generator) for _ in range(2))
    assert first.parameters != second.parameters
    assert not torch.equal(first.noisy, second.noisy)


def test_gaussian_noise_has_its_sigma_in_255ths():
    clean = torch.full((3, 256, 256), 0.5)
    made = corrupt(clean, Gaussian(sigma=(20.0, 20.0), clip=False), torch.Generator().manual_seed(5))
    noise = made.noisy - clean
    # sd of a sample standard deviation is sigma / sqrt(2n); 5 sd.
    assert abs(noise.std().item() * 255 - 20) < 5 * 20 / math.sqrt(2 * noise.numel())
    assert made.clean is clean


def test_gaussian_sigma_is_uniform_over_its_range():
    generator = torch.Generator().manual_seed(6)
    sigma = np.array([Gaussian(sigma=(10.0, 30.0)).draw(generator)["sigma"] for _ in range(2000)])
    assert 10 <= sigma.min() < 10.2
    assert 29.8 < sigma.max() <= 30
    assert abs(sigma.mean() - 20) < 5 * 20 / math.sqrt(12 * 2000)


def test_gaussian_clip_keeps_the_image_in_range():
    clean = torch.zeros(1, 64, 64)
    assert corrupt(clean, Gaussian(), torch.Generator().manual_seed(1)).noisy.min() == 0
    assert corrupt(clean, Gaussian(clip=False), torch.Generator().manual_seed(1)).noisy.min() < 0


def test_camera_target_is_the_developed_clean_raw():
    clean = image()
    made = corrupt(clean, CameraNoise(), torch.Generator().manual_seed(9))
    values = made.parameters
    camera = Camera(
        rgb2cam=torch.tensor(values["rgb2cam"]),
        rgb_gain=torch.tensor(values["rgb_gain"]),
        red_gain=torch.tensor(values["red_gain"]),
        blue_gain=torch.tensor(values["blue_gain"]),
    )
    assert torch.equal(made.clean, process(unprocess(clean, camera), camera))
    assert (made.clean - clean).abs().mean() > 0.02


@pytest.mark.parametrize("size", [(9, 12), (12, 9), (7, 7), (1, 1)])
def test_odd_sizes_keep_their_size_and_their_pixels(size):
    clean = image(*size)
    made = corrupt(clean, CameraNoise(), torch.Generator().manual_seed(1))
    assert made.noisy.shape == made.clean.shape == clean.shape
    even = torch.nn.functional.pad(clean[None], (0, size[1] % 2, 0, size[0] % 2), mode="replicate")[0]
    whole = reproduce(even, made.parameters)
    assert torch.equal(made.clean, whole.clean[:, : size[0], : size[1]])


def test_bytes_and_floats_are_corrupted_alike():
    clean = (image() * 255).to(torch.uint8)
    made = [corrupt(source, CameraNoise(), torch.Generator().manual_seed(2)) for source in (clean, clean / 255)]
    torch.testing.assert_close(made[0].noisy, made[1].noisy, rtol=0, atol=1e-5)


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_survives_json(recipe):
    assert recipe_from_dict(json.loads(json.dumps(recipe_to_dict(recipe)))) == recipe


def test_missing_keys_take_their_defaults():
    assert recipe_from_dict({"kind": "gaussian"}) == Gaussian()
    assert recipe_from_dict({"kind": "gaussian", "sigma": [5, 50]}) == Gaussian(sigma=(5.0, 50.0))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"kind": "grain"}, "kind: no noise 'grain'; there is gaussian, speckle, poisson, .*, sequence"),
        ({"sigma": [1, 2]}, "no noise None; there is gaussian, speckle"),
        (
            {"kind": "gaussian", "sigmas": [1, 2]},
            "sigmas: unknown key of gaussian; it has kind, sigma, clip, eight_bit",
        ),
        ({"kind": "gaussian", "sigma": [30, 10]}, r"sigma must be a range .* got \(30.0, 10.0\)"),
        ({"kind": "gaussian", "sigma": [1, 2, 3]}, r"sigma must be \[lowest, highest\], got \[1, 2, 3\]"),
        ({"kind": "gaussian", "sigma": 15}, r"sigma must be \[lowest, highest\], got 15"),
        ({"kind": "gaussian", "sigma": [1, True]}, "sigma.1 must be a number, got True"),
        ({"kind": "gaussian", "sigma": [math.nan, 1]}, "sigma.0 must be a number, got nan"),
        ({"kind": "gaussian", "clip": 1}, "clip must be true or false, got 1"),
        (
            {"kind": "speckle", "distribution": "rayleigh"},
            "distribution must be one of 'uniform', 'normal', got 'rayleigh'",
        ),
        ({"kind": "poisson", "white": 0}, "white must be a number of photons from 1"),
        ({"kind": "poisson", "white": 2.5}, "white must be a whole number, got 2.5"),
        ({"kind": "salt_pepper", "density": [0.5, 1.5]}, "density must be a range 0 <= lowest <= highest <= 1"),
        ({"kind": "mixture", "level": [1, 6]}, "level must be a range of whole numbers"),
        ({"kind": "camera", "levels": {"shot": [0, 0.01]}}, "levels.shot must be a range 0 < lowest"),
        ({"kind": "camera", "levels": {"kind": "curve"}}, "levels.kind: no 'curve'; there is line, table, sensor"),
        ({"kind": "camera", "levels": 0.01}, "levels must be an object, got 0.01"),
        ({"kind": "camera", "levels": {"name": "pixel"}}, "levels.name: unknown key of line; it has kind, shot"),
        (
            {"kind": "camera", "levels": {"kind": "sensor", "name": "pixl"}},
            "levels.name must be one of 'pixel', .*'pixl'",
        ),
        (
            {"kind": "camera", "levels": {"kind": "table", "points": [[1e-3]]}},
            r"levels.points.0 must be a list of 2, got \[0.001\]",
        ),
        (
            {"kind": "camera", "rendering": {"demosaic": "menon"}},
            "rendering.demosaic must be one of 'bilinear', 'malvar'",
        ),
        ({"kind": "camera", "sensor": {"bits": 3}}, "sensor.bits must be from 4 to 16, got 3"),
        ({"kind": "camera", "rendering": {"gamma": 2}}, "rendering.gamma: unknown key; it has demosaic"),
        ({"kind": "correlated", "sigma": [0, 5]}, "sigma must be a range 0 < lowest"),
        ({"kind": "correlated", "luminance": [0, 1.5]}, "luminance must be a range 0 <= lowest <= highest <= 1"),
        ({"kind": "correlated", "gain": -1}, "gain must be a range"),
        ({"kind": "correlated", "jpeg": [0, 50]}, "jpeg must be a range 1 <= lowest"),
        ({"kind": "choice"}, "recipes must hold at least one recipe, got none"),
        (
            {"kind": "choice", "recipes": [{"kind": "eld"}], "shares": [1, 2]},
            "shares must be one number a recipe",
        ),
        ({"kind": "choice", "recipes": [{"kind": "eld"}], "shares": [0]}, "shares must be above 0"),
        ({"kind": "choice", "recipes": [{"kind": "eld", "ratio": [3, 2]}]}, "recipes.0.ratio must be a range"),
        ({"kind": "sequence"}, "steps must hold at least one recipe, got none"),
        ({"kind": "sequence", "steps": {"kind": "poisson"}}, "steps must be a list, got"),
        ({"kind": "sequence", "steps": [{"kind": "poisson", "alfa": 2}]}, "steps.0.alfa: unknown key of poisson"),
        ({"kind": "sequence", "steps": [{"kind": "poisson", "alpha": [3, 2]}]}, "steps.0.alpha must be a range"),
        ({"kind": "sequence", "steps": [{"kind": "sequence"}]}, "steps.0.kind: no 'sequence'; there is gaussian"),
        ({"kind": "sequence", "steps": [{"kind": "gaussian"}, {"kind": "eld"}]}, "steps.1: eld must be the first step"),
    ],
)
def test_a_wrong_recipe_is_refused_with_the_key_and_what_exists(values, message):
    with pytest.raises(ValueError, match=f"^{message}" if not message.startswith("no ") else message):
        recipe_from_dict(values)


@pytest.mark.parametrize("recipe", RECIPES)
def test_configurations_and_manifests_understand_the_same_recipes(recipe):
    from pydantic import TypeAdapter

    from pipeline.schema import Recipe

    adapter = TypeAdapter(Recipe)
    values = json.loads(json.dumps(recipe_to_dict(recipe)))
    assert adapter.validate_python(values) == recipe
    assert json.loads(adapter.dump_json(recipe)) == values


def test_a_sequence_applies_its_steps_in_order_and_the_first_makes_the_clean_partner():
    clean = image()
    steps = (CameraNoise(levels=SensorLevels()), SaltPepper(density=(0.2, 0.2), eight_bit=False))
    made = corrupt(clean, Sequence(steps=steps), torch.Generator().manual_seed(2))
    first, second = made.parameters["steps"]
    developed = reproduce(clean, first)
    assert torch.equal(made.clean, developed.clean)
    assert torch.equal(made.noisy, reproduce(developed.noisy, second).noisy)
    untouched = made.noisy == developed.noisy
    assert 0.7 < untouched.double().mean() < 0.9
    backwards = Sequence(steps=(SaltPepper(density=(1.0, 1.0), eight_bit=False), Spatial(eight_bit=False)))
    assert corrupt(clean, backwards, torch.Generator().manual_seed(2)).noisy.unique().numel() > 2


@pytest.mark.parametrize("shape", [(1, 8, 8), (8, 8), (2, 3, 8, 8)])
def test_camera_noise_needs_one_colour_image(shape):
    with pytest.raises(ValueError, match="shape"):
        corrupt(torch.zeros(shape), CameraNoise(), torch.Generator())


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_batch_is_its_images_one_after_the_other_as_tensor_and_as_array(recipe):
    batch = torch.stack([image(seed=seed) for seed in range(3)])
    noisy, clean, parameters = corrupt_batch(batch, recipe, torch.Generator().manual_seed(4))
    generator = torch.Generator().manual_seed(4)
    for index in range(3):
        alone = corrupt(batch[index], recipe, generator)
        assert torch.equal(noisy[index], alone.noisy)
        assert torch.equal(clean[index], alone.clean)
        assert parameters[index] == alone.parameters
    arrays = corrupt_batch(batch.numpy(), recipe, torch.Generator().manual_seed(4))
    assert isinstance(arrays[0], np.ndarray)
    assert np.array_equal(arrays[0], noisy.numpy())
    assert np.array_equal(arrays[1], clean.numpy())


def test_one_image_is_no_batch():
    with pytest.raises(ValueError, match=r"a batch must have shape \(B, C, H, W\) with B >= 1, got \(3, 24, 32\)"):
        corrupt_batch(image(), Gaussian(), torch.Generator())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("recipe", RECIPES)
def test_a_gpu_gets_the_noise_of_the_cpu(recipe):
    clean = image()
    here, there = (corrupt(clean.to(device), recipe, torch.Generator().manual_seed(4)) for device in ("cpu", "cuda"))
    assert there.noisy.device.type == there.clean.device.type == "cuda"
    torch.testing.assert_close(there.clean.cpu(), here.clean, rtol=0, atol=1e-5)
    # A JPEG or an 8-bit file may round one value the other way.
    assert ((there.noisy.cpu() - here.noisy).abs() > 1e-4).double().mean() < 0.01
