"""The camera recipe: the default as it always was, and every option against what it must do to an image."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from noise.camera_noise import CameraNoise, add_camera_noise
from noise.finish import camera_of, develop, photograph
from noise.levels import LevelLine, LevelTable, SensorLevels
from noise.raw_pair import raw_pair
from noise.recipe import recipe_from_dict, recipe_to_dict
from noise.sensor_effects import SensorEffects
from noise.shot_read import NoiseLevel
from raw.camera import Camera
from raw.cfa import CFA_PATTERNS
from raw.isp import process, unprocess
from raw.jpeg import jpeg
from raw.mosaic import mosaic, unpack
from raw.rendering import Rendering

ORACLES = Path(__file__).parent / "oracles"
EFFECTS = SensorEffects(
    prnu=(0.005, 0.01), hot_pixels=(1e-4, 1e-3), rows=(0.05, 0.2), colour_bias=(0, 0.2), bits=12, black=256
)
RENDERING = Rendering(demosaic="malvar", transfer="srgb", tone="smoothstep", brighten=True)
RECIPES = [
    CameraNoise(),
    CameraNoise(levels=LevelLine(shot=(1e-3, 1e-2), slope=1.9, intercept=0.3, std=0.0), photons="poisson"),
    CameraNoise(levels=LevelTable(points=((1e-3, 1e-6), (1e-2, 1e-4))), pattern="random"),
    CameraNoise(levels=SensorLevels(name="random_camera"), rendering=RENDERING, sensor=EFFECTS),
    CameraNoise(pattern="GBRG", jpeg=(70, 95), subsampling="4:4:4", resize=(0.5, 1.5)),
    CameraNoise(levels=SensorLevels(name="random_phone"), sensor=EFFECTS, photons="poisson", jpeg=(80, 80)),
    CameraNoise(rendering=Rendering(clip_black=False), exposure=(0.1, 1.0), tint=0.5, saturation=(0.3, 1.1)),
    CameraNoise(rendering=Rendering(clip_black=False), photons="poisson", black_error=(-0.001, 0.006)),
]


def generator(seed=1):
    return torch.Generator().manual_seed(seed)


def image(height=24, width=32, seed=0):
    return torch.rand((3, height, width), generator=generator(seed))


def neutral(**values):
    """Parameters of a camera without colours of its own, as a manifest of version 0.1 holds them."""
    camera = {"rgb2cam": torch.eye(3).tolist(), "rgb_gain": 1.0, "red_gain": 1.0, "blue_gain": 1.0, "pattern": "RGGB"}
    return {"kind": "camera", **camera, "shot": 0.0, "read": 0.0, "seed": 1, **values}


def linear_noise(made):
    """Noise of a pair in linear light, where nothing was clipped; both (3, H, W) float64."""
    noisy, clean = made.noisy.double() ** 2.2, made.clean.double() ** 2.2
    return noisy - clean


def test_default_parameters_are_those_of_version_0_1():
    """Documented runs and stored manifests name seeds: the same seed must stay the same camera and noise."""
    drawn = CameraNoise().draw(generator(9))
    expected = {
        "kind": "camera",
        "rgb_gain": 1.2871720790863037,
        "red_gain": 2.090219736099243,
        "blue_gain": 1.66417396068573,
        "pattern": "RGGB",
        "shot": 0.0018385933710130013,
        "read": 3.9517840234287945e-06,
        "seed": 943634970375464,
    }
    assert {key: drawn[key] for key in expected} == expected
    # A product of matrices: its last bit depends on the processor.
    assert drawn["rgb2cam"][0] == pytest.approx([0.6718725562095642, 0.2622824013233185, 0.0658450573682785], rel=1e-6)
    levels = LevelLine(shot=(2e-3, 1.2e-2))
    other = CameraNoise(levels=levels).draw(generator(9))
    assert (other["shot"], other["read"]) == (0.005946679202470963, 5.1066116374905936e-05)


def test_parameters_of_version_0_1_make_what_they_made():
    clean = image()
    drawn = CameraNoise().draw(generator(9))
    old = {key: drawn[key] for key in neutral()}
    made, now = add_camera_noise(clean, old), add_camera_noise(clean, drawn)
    assert torch.equal(made.noisy, now.noisy)
    assert torch.equal(made.clean, now.clean)
    camera = camera_of(drawn, clean.device)
    raw = unprocess(clean, camera)
    level = NoiseLevel(shot=drawn["shot"], read=drawn["read"])
    assert torch.equal(now.noisy, process(level.add(raw, generator(drawn["seed"])), camera))


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_survives_json(recipe):
    assert recipe_from_dict(json.loads(json.dumps(recipe_to_dict(recipe), allow_nan=False))) == recipe


@pytest.mark.parametrize("recipe", RECIPES)
def test_stored_parameters_bring_back_the_same_bits(recipe):
    clean = image(33, 48)
    parameters = recipe.draw(generator(4))
    made = add_camera_noise(clean, parameters)
    again = add_camera_noise(clean, json.loads(json.dumps(parameters, allow_nan=False)))
    assert torch.equal(made.noisy, again.noisy)
    assert torch.equal(made.clean, again.clean)
    assert made.noisy.shape == made.clean.shape == clean.shape
    assert made.noisy.min() >= 0
    assert made.noisy.max() <= 1
    assert not torch.equal(made.noisy, made.clean)


@pytest.mark.parametrize("recipe", RECIPES[1:])
def test_an_option_leaves_the_camera_and_the_seed_of_an_image_as_they_were(recipe):
    plain, other = CameraNoise().draw(generator(8)), recipe.draw(generator(8))
    for key in ("rgb2cam", "rgb_gain", "red_gain", "blue_gain"):
        assert other[key] == plain[key]
    if not isinstance(recipe.levels, SensorLevels):  # a random sensor is a draw more
        assert other["seed"] == plain["seed"]


def test_sensor_effects_do_not_change_the_shot_and_read_noise():
    clean = torch.full((3, 64, 64), 0.5)
    tiny = {"prnu": 0.0, "hot_fraction": 0.0, "hot_level": 0.2, "row_std": 1e-9, "offsets": [0.0] * 4}
    tiny |= {"bits": None, "black": 0, "seed": 5}
    plain = add_camera_noise(clean, neutral(shot=1e-3, read=1e-5))
    made = add_camera_noise(clean, neutral(shot=1e-3, read=1e-5, sensor=tiny))
    torch.testing.assert_close(made.noisy, plain.noisy, rtol=0, atol=1e-6)


@pytest.mark.parametrize("pair", [0, 1])
@pytest.mark.parametrize("field", ["dark", "mid", "bright"])
def test_default_noise_on_a_flat_field_has_the_reference_statistics(field, pair):
    data = np.load(ORACLES / "rawsynth_flat_statistics.npz")
    rgb_gain, red_gain, blue_gain = (float(gain) for gain in data["gains"])
    shot, read = (float(value) for value in data["shot_read"][pair])
    level = float(data["levels"][["dark", "mid", "bright"].index(field)])
    gains = {"rgb_gain": rgb_gain, "red_gain": red_gain, "blue_gain": blue_gain}
    flat = torch.full((3, 512, 512), level)
    images = [
        add_camera_noise(flat, neutral(**gains, rgb2cam=data["rgb2cam"].tolist(), shot=shot, read=read, seed=seed))
        for seed in range(2)
    ]
    noisy = torch.stack([made.noisy[:, 8:-8, 8:-8] for made in images]).double().numpy()
    residual = noisy - noisy.mean(axis=(0, 2, 3), keepdims=True)
    std = residual.std(axis=(0, 2, 3))
    np.testing.assert_allclose(std, data[f"{field}_{pair}_std"], rtol=0.01)
    np.testing.assert_allclose(images[0].clean[:, 256, 256], data[f"{field}_{pair}_clean"], atol=1e-5)
    # Correlated over 2 pixels, about every eighth sample counts: 5 sd of a mean over 2 * 496^2 / 8.
    allowed = 5 * std / math.sqrt(2 * 496**2 / 8)
    assert np.all(np.abs(noisy.mean(axis=(0, 2, 3)) - data[f"{field}_{pair}_mean"]) < allowed)
    for down, right in [(0, 1), (1, 0), (1, 1), (0, 2), (2, 2), (0, 4)]:
        height, width = 496 - down, 496 - right
        product = residual[..., :height, :width] * residual[..., down:, right:]
        correlation = product.mean(axis=(0, 2, 3)) / std**2
        np.testing.assert_allclose(correlation, data[f"{field}_{pair}_autocorr"][down, right], atol=0.01)
    channels = np.corrcoef(np.moveaxis(residual, 1, 0).reshape(3, -1))
    np.testing.assert_allclose(channels, data[f"{field}_{pair}_chancorr"], atol=0.01)


def test_the_clean_partner_is_the_developed_clean_raw():
    clean = image()
    parameters = CameraNoise(rendering=RENDERING, sensor=EFFECTS, photons="poisson").draw(generator(9))
    made = add_camera_noise(clean, parameters)
    camera = camera_of(parameters, clean.device)
    assert torch.equal(made.clean, process(unprocess(clean, camera), camera, RENDERING))


def test_poisson_photons_have_their_skewness():
    flat = torch.full((3, 256, 256), 0.3)  # linear 0.3^2.2 after the inverse tone curve
    x = photograph(flat[:, :2, :2], Camera(**_identity()))[1, 0, 0].item()
    shot = x / 20  # 20 photons
    for photons, want in (("poisson", 1 / math.sqrt(20)), ("gaussian", 0.0)):
        made = add_camera_noise(flat, neutral(shot=shot, photons=photons))
        green = mosaic(linear_noise(made), "RGGB")[1:3].numpy()  # demosaicing keeps a site's own sample
        standard = green / green.std()
        assert abs(green.var() / (shot * x) - 1) < 5 * math.sqrt((2 + 1 / 20) / green.size)
        assert abs((standard**3).mean() - want) < 5 * math.sqrt(25 / green.size), photons


def _identity():
    one = torch.tensor(1.0)
    return {"rgb2cam": torch.eye(3), "rgb_gain": one, "red_gain": one, "blue_gain": one}


def test_uneven_sensitivity_is_in_proportion_to_the_light():
    sensor = {"prnu": 0.01, "hot_fraction": 0.0, "hot_level": 0.2, "row_std": 0.0, "offsets": [0.0] * 4}
    sensor |= {"bits": None, "black": 0, "seed": 5}
    fields = []
    for level in (0.3, 0.6):
        made = add_camera_noise(torch.full((3, 128, 128), level), neutral(sensor=sensor))
        light = (made.clean.double() ** 2.2).mean()
        fields.append(mosaic(linear_noise(made) / light, "RGGB"))
        assert abs(fields[-1].std().item() / 0.01 - 1) < 5 / math.sqrt(2 * fields[-1].numel())
    torch.testing.assert_close(fields[0], fields[1], rtol=0, atol=1e-5)


@pytest.mark.parametrize("pattern", CFA_PATTERNS)
def test_row_noise_is_in_rows_of_the_image_for_every_pattern(pattern):
    sensor = {"prnu": 0.0, "hot_fraction": 0.0, "hot_level": 0.2, "row_std": 0.01, "offsets": [0.0] * 4}
    sensor |= {"bits": None, "black": 0, "seed": 5}
    made = add_camera_noise(torch.full((3, 64, 64), 0.5), neutral(pattern=pattern, sensor=sensor))
    # Demosaicing keeps a site's own sample, so the image still holds the mosaic.
    rows = unpack(mosaic(linear_noise(made), pattern), pattern)
    torch.testing.assert_close(rows, rows[:, :1].expand_as(rows), rtol=0, atol=1e-6)
    assert abs(rows[:, 0].std().item() / 0.01 - 1) < 5 / math.sqrt(2 * 64)


def test_saturation_happens_in_the_raw_before_white_balance():
    """With gains below 1 what is saturated ends at the gain; were it clipped after them, at white."""
    flat = torch.ones(3, 16, 16)
    sensor = {"prnu": 0.0, "hot_fraction": 1.0, "hot_level": 1e3, "row_std": 0.0, "offsets": [0.0] * 4, "seed": 5}
    gains = {"red_gain": 0.8, "blue_gain": 0.7}
    clipped = add_camera_noise(flat, neutral(**gains, sensor={**sensor, "bits": 12, "black": 256})).noisy ** 2.2
    assert clipped[0].median().item() == pytest.approx(0.8, abs=1e-3)
    assert clipped[2].median().item() == pytest.approx(0.7, abs=1e-3)
    unclipped = add_camera_noise(flat, neutral(**gains, sensor={**sensor, "bits": None, "black": 0})).noisy
    assert unclipped.median() == 1


@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:2", "4:2:0"])
def test_jpeg_is_on_the_noisy_image_alone(subsampling):
    clean = image(48, 48)
    parameters = CameraNoise(jpeg=(50, 60), subsampling=subsampling).draw(generator(3))
    assert 50 <= parameters["jpeg"] <= 60
    made, plain = (add_camera_noise(clean, {**parameters, "jpeg": quality}) for quality in (parameters["jpeg"], None))
    assert torch.equal(made.clean, plain.clean)
    assert torch.equal(made.noisy, jpeg(plain.noisy, parameters["jpeg"], subsampling))


def test_resize_is_on_both_images_and_correlates_or_averages_the_noise():
    flat = torch.full((3, 128, 128), 0.5)
    spread = {}
    for scale in (0.5, None, 2.0):
        made = add_camera_noise(flat, neutral(shot=1e-3, read=1e-6, scale=scale))
        assert made.noisy.shape == made.clean.shape == flat.shape
        spread[scale] = linear_noise(made)[1].std().item()
        torch.testing.assert_close(made.clean, made.clean[:, :1, :1].expand_as(made.clean), rtol=0, atol=1e-5)
    # White noise shrunk by 2 would fall to about a half; demosaiced green is already smooth over a pixel or two.
    assert 0.5 < spread[0.5] / spread[None] < 0.85
    assert spread[2.0] / spread[None] < 1.05


def test_a_picture_keeps_its_content_when_it_is_taken_larger():
    from skimage import data

    clean = torch.from_numpy(data.astronaut()[64:192, 160:288].copy()).permute(2, 0, 1).contiguous()
    plain, larger = (add_camera_noise(clean, neutral(scale=scale)).clean for scale in (None, 0.5))
    # The same picture, neither shifted nor re-graded; sharper, as less of it is lost in the mosaic.
    assert (plain - larger).abs().mean() < 0.03
    best = clean.double().numpy() / 255
    assert np.corrcoef(best.ravel(), larger.ravel())[0, 1] > 0.99 * np.corrcoef(best.ravel(), plain.ravel())[0, 1]


@pytest.mark.parametrize("size", [(9, 12), (12, 9), (7, 7), (1, 1)])
@pytest.mark.parametrize("recipe", [RECIPES[0], RECIPES[4]])
def test_odd_sizes_keep_their_size(size, recipe):
    made = add_camera_noise(image(*size), recipe.draw(generator()))
    assert made.noisy.shape == made.clean.shape == (3, *size)


def test_odd_sizes_keep_their_pixels():
    clean, parameters = image(9, 11), CameraNoise().draw(generator())
    even = torch.nn.functional.pad(clean[None], (0, 1, 0, 1), mode="replicate")[0]
    whole = add_camera_noise(even, parameters)
    assert torch.equal(add_camera_noise(clean, parameters).clean, whole.clean[:, :9, :11])


@pytest.mark.parametrize("recipe", [RECIPES[0], RECIPES[3], RECIPES[4]])
def test_bytes_and_floats_are_corrupted_alike(recipe):
    clean, parameters = (image() * 255).to(torch.uint8), recipe.draw(generator(2))
    noisy = [add_camera_noise(source, {**parameters, "jpeg": None}).noisy for source in (clean, clean / 255)]
    # An ADC step may round the other way for a value on its edge, and the slope of the transfer multiplies it.
    atol = 1e-5 if parameters["sensor"] is None else 0.05
    torch.testing.assert_close(noisy[0], noisy[1], rtol=0, atol=atol)


def test_a_random_pattern_is_each_of_the_four():
    source = generator()
    drawn = [CameraNoise(pattern="random").draw(source)["pattern"] for _ in range(400)]
    for pattern in CFA_PATTERNS:
        assert abs(drawn.count(pattern) / 400 - 0.25) < 5 * math.sqrt(0.25 * 0.75 / 400)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("recipe", RECIPES)
def test_a_gpu_makes_the_same_pair(recipe):
    clean, parameters = image(33, 48), recipe.draw(generator(3))
    here, there = add_camera_noise(clean, parameters), add_camera_noise(clean.cuda(), parameters)
    assert there.noisy.is_cuda
    # JPEG and the converter round: a value on an edge may go the other way.
    rounds = parameters["jpeg"] is not None or parameters["sensor"] is not None
    assert (here.noisy - there.noisy.cpu()).abs().mean() < (1e-3 if rounds else 1e-5)
    torch.testing.assert_close(there.clean.cpu(), here.clean, rtol=0, atol=2e-5)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"photons": "laser"}, "photons must be gaussian or poisson, got 'laser'"),
        ({"pattern": "RGBG"}, "pattern must be one of .*, random; got 'RGBG'"),
        ({"jpeg": (0, 50)}, "jpeg must be a range 1 <= lowest <= highest <= 100"),
        ({"jpeg": (90, 50)}, "jpeg must be a range"),
        ({"resize": (0.1, 1.0)}, "resize must be a range 0.25 <= lowest"),
        ({"subsampling": "4:1:1"}, "subsampling must be one of 4:4:4, 4:2:2, 4:2:0; got '4:1:1'"),
    ],
)
def test_a_recipe_that_cannot_be_is_refused(values, message):
    with pytest.raises(ValueError, match=message):
        CameraNoise(**values)


def test_exposure_scales_the_light_of_both_images_and_not_the_noise_level():
    clean = torch.full((3, 96, 96), 0.5)
    bright, dark = (
        add_camera_noise(clean, neutral(shot=0.001, exposure=exposure, rendering={"clip_black": False}))
        for exposure in (1.0, 0.25)
    )
    torch.testing.assert_close(dark.clean**2.2, bright.clean**2.2 / 4, rtol=1e-4, atol=1e-6)
    # Shot noise: a quarter of the light has half the deviation.
    assert linear_noise(dark).std().item() / linear_noise(bright).std().item() == pytest.approx(0.5, rel=0.02)


def test_exposure_is_drawn_evenly_by_factors_and_its_range_is_checked():
    noise = CameraNoise(exposure=(0.1, 1.0))
    drawn = generator()
    logs = np.log10([noise.draw(drawn)["exposure"] for _ in range(500)])
    assert -1 <= logs.min() < -0.98
    assert abs(logs.mean() + 0.5) < 0.07
    for wrong in ((0.0, 0.5), (0.5, 1.5)):
        with pytest.raises(ValueError, match="exposure must be a range 0 < lowest <= highest <= 1"):
            CameraNoise(exposure=wrong)


def test_a_tint_scales_red_and_blue_light_of_both_images():
    clean = torch.full((3, 32, 32), 0.5)
    plain, tinted = (
        add_camera_noise(clean, neutral(tint=tint, rendering={"clip_black": False})) for tint in (None, [0.3, -0.4])
    )
    factors = torch.tensor([0.3, 0.0, -0.4]).exp().view(3, 1, 1)
    torch.testing.assert_close(tinted.clean**2.2, plain.clean**2.2 * factors, rtol=1e-4, atol=1e-6)
    drawn = generator()
    tints = np.array([CameraNoise(tint=0.4).draw(drawn)["tint"] for _ in range(300)])
    assert 0.35 < np.abs(tints).max() <= 0.4
    assert abs(np.corrcoef(tints.T)[0, 1]) < 0.2
    with pytest.raises(ValueError, match="tint must be a range 0 <= lowest <= highest <= 1"):
        CameraNoise(tint=1.5)


def test_a_drawn_saturation_is_that_of_the_rendering():
    noise, drawn = CameraNoise(rendering=RENDERING, saturation=(0.3, 1.1)), generator()
    values = [noise.draw(drawn)["rendering"]["saturation"] for _ in range(300)]
    assert 0.3 <= min(values) < 0.32
    assert 1.08 < max(values) <= 1.1
    parameters = noise.draw(drawn)
    same = {**parameters, "rendering": {**parameters["rendering"], "saturation": 0.0}}
    made = add_camera_noise(image(), same)
    torch.testing.assert_close(made.noisy[0], made.noisy[1])
    with pytest.raises(ValueError, match="saturation must be a range 0 <= lowest <= highest <= 2"):
        CameraNoise(saturation=(0.5, 3.0))


def test_a_wrong_black_level_is_left_in_both_images_and_tints_the_shadows():
    clean = torch.full((3, 32, 32), 0.2)
    more = {"red_gain": 2.0, "blue_gain": 1.5, "rendering": {"clip_black": False}}
    right, wrong = (add_camera_noise(clean, neutral(**more, **error)) for error in ({}, {"black_error": 0.004}))
    gains = torch.tensor([2.0, 1.0, 1.5]).view(3, 1, 1)
    for side in ("clean", "noisy"):
        difference = getattr(wrong, side) ** 2.2 - getattr(right, side) ** 2.2
        torch.testing.assert_close(difference, 0.004 * gains.expand_as(difference), rtol=1e-3, atol=1e-6)
    noise = CameraNoise(black_error=(-0.001, 0.004))
    drawn = generator()
    errors = [noise.draw(drawn)["black_error"] for _ in range(300)]
    assert -0.001 <= min(errors) < -0.0009
    assert 0.0039 < max(errors) <= 0.004
    assert "black_error" not in CameraNoise().draw(generator())
    with pytest.raises(ValueError, match=r"black_error must be a range -0.1 <= lowest <= highest <= 0.1"):
        CameraNoise(black_error=(0.0, 0.5))


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_raws_of_a_pair_are_those_that_are_developed(recipe):
    parameters = recipe.draw(generator(3))
    clean = image(32, 48)
    pair = raw_pair(clean, parameters)
    made = add_camera_noise(clean, parameters)
    again = develop(pair.noisy, pair.clean, pair.camera, parameters, clean.shape[-2:])
    torch.testing.assert_close(again.noisy, made.noisy, rtol=0, atol=0)
    torch.testing.assert_close(again.clean, made.clean, rtol=0, atol=0)
