"""The camera pipeline against independent float32 implementations, step by step and end to end."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from raw.camera import Camera, sample_camera
from raw.cfa import CFA_PATTERNS
from raw.color import apply_ccm, safe_invert_gains
from raw.demosaic import demosaic
from raw.isp import process, unprocess
from raw.mosaic import mosaic
from raw.rendering import Rendering
from raw.tone import inverse_smoothstep, linearize, smoothstep, srgb_compression

ORACLES = Path(__file__).parent / "oracles"
STAGES = ("gradient", "random", "saturated")
LINEAR = {"rtol": 0.0, "atol": 2e-6}
# The slope of x^(1/2.2) is 1e4 at its lower clip.
DISPLAY = {"rtol": 0.0, "atol": 1e-5}


def stages(name):
    file = f"rawsynth_stages_{name}_a.npz"
    for folder in (ORACLES, Path(__file__).parents[2] / "shared" / "oracles"):
        if (folder / file).exists():
            return np.load(folder / file)
    pytest.skip(f"{file} is too large to be part of the repository")


def channels_first(array):
    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(array, -1, -3)))


def camera_of(data, which):
    rgb_gain, red_gain, blue_gain = torch.from_numpy(data[f"{which}_gains"])
    return Camera(
        rgb2cam=torch.from_numpy(data[f"{which}_rgb2cam"]),
        rgb_gain=rgb_gain,
        red_gain=red_gain,
        blue_gain=blue_gain,
    )


def batch_of(cameras):
    return Camera(
        **{
            name: torch.stack([getattr(camera, name) for camera in cameras])
            for name in ("rgb2cam", "rgb_gain", "red_gain", "blue_gain")
        }
    )


@pytest.mark.parametrize("name", STAGES)
@pytest.mark.parametrize("which", ["m0", "m1"])
def test_every_unprocessing_step_equals_the_reference(name, which):
    data = stages(name)
    camera = camera_of(data, which)
    image = channels_first(data["image"])
    flat = inverse_smoothstep(image)
    torch.testing.assert_close(
        flat, channels_first(data["inverse_smoothstep"]), rtol=0, atol=2e-6 if name == "random" else 2e-5
    )
    linear = linearize(image)
    torch.testing.assert_close(linear, channels_first(data["gamma_expansion"]), **LINEAR)
    colored = apply_ccm(linear, camera.rgb2cam)
    torch.testing.assert_close(colored, channels_first(data[f"{which}_apply_ccm"]), **LINEAR)
    inverse_gains = 1 / (camera.plane_gains[[0, 1, 3]] * camera.rgb_gain)
    dimmed = safe_invert_gains(colored, colored.mean(dim=0), inverse_gains[:, None, None])
    torch.testing.assert_close(dimmed, channels_first(data[f"{which}_safe_invert_gains"]), **LINEAR)
    expected = channels_first(data[f"{which}_mosaic"])
    torch.testing.assert_close(mosaic(dimmed.clamp(0, 1)), expected, **LINEAR)
    torch.testing.assert_close(unprocess(image, camera), expected, **LINEAR)


@pytest.mark.parametrize("name", STAGES)
@pytest.mark.parametrize("which", ["m0", "m1"])
def test_every_processing_step_equals_the_reference(name, which):
    data = stages(name)
    camera = camera_of(data, which)
    packed = channels_first(data[f"{which}_mosaic"])
    torch.testing.assert_close(camera.cam2rgb, torch.from_numpy(data[f"{which}_cam2rgb"]), **LINEAR)
    balanced = packed * camera.plane_gains[:, None, None]
    torch.testing.assert_close(balanced, channels_first(data[f"{which}_apply_gains"]), **LINEAR)
    colored = demosaic(balanced.clamp(0, 1))
    torch.testing.assert_close(colored, channels_first(data[f"{which}_demosaic"]), **LINEAR)
    linear = apply_ccm(colored, camera.cam2rgb)
    torch.testing.assert_close(linear, channels_first(data[f"{which}_apply_ccms"]), **LINEAR)
    torch.testing.assert_close(process(packed, camera), channels_first(data[f"{which}_process"]), **DISPLAY)


@pytest.mark.parametrize("name", STAGES)
@pytest.mark.parametrize("which", ["m0", "m1"])
def test_noisy_raw_is_clipped_where_the_reference_clips(name, which):
    data = stages(name)
    noisy = channels_first(data[f"{which}_noisy_mosaic"])
    assert noisy.min() < 0  # else the clip before the demosaic is not exercised
    expected = channels_first(data[f"{which}_noisy_process"])
    torch.testing.assert_close(process(noisy, camera_of(data, which)), expected, **DISPLAY)


def test_a_batch_of_cameras_equals_one_at_a_time():
    generator = torch.Generator().manual_seed(1)
    cameras = [sample_camera(generator) for _ in range(3)]
    images = torch.rand((3, 3, 8, 10), generator=generator)
    packed = unprocess(images, batch_of(cameras))
    developed = process(packed, batch_of(cameras))
    for i, camera in enumerate(cameras):
        torch.testing.assert_close(packed[i], unprocess(images[i], camera))
        torch.testing.assert_close(developed[i], process(packed[i], camera), **DISPLAY)


@pytest.mark.parametrize("pattern", ["BGGR", "GRBG", "GBRG"])
def test_another_pattern_is_the_same_camera_moved_by_a_pixel(pattern):
    generator = torch.Generator().manual_seed(2)
    camera = sample_camera(generator)
    moved = Camera(
        rgb2cam=camera.rgb2cam,
        rgb_gain=camera.rgb_gain,
        red_gain=camera.red_gain,
        blue_gain=camera.blue_gain,
        pattern=pattern,
    )
    down, right = divmod(pattern.index("R"), 2)
    image = torch.rand((3, 24, 24), generator=generator)
    shifted = image.roll((down, right), dims=(1, 2))
    there = process(unprocess(shifted, moved), moved).roll((-down, -right), dims=(1, 2))
    here = process(unprocess(image, camera), camera)
    inside = (slice(None), slice(4, -4), slice(4, -4))
    torch.testing.assert_close(there[inside], here[inside])


def test_process_is_not_the_inverse_of_unprocess():
    camera = Camera(
        rgb2cam=torch.eye(3),
        rgb_gain=torch.tensor(1.25),
        red_gain=torch.tensor(2.1),
        blue_gain=torch.tensor(1.7),
    )
    grey = torch.full((3, 8, 8), 0.5)
    developed = process(unprocess(grey, camera), camera)
    # Grey 0.5 is a fixed point of the tone curve, so what is missing is rgb_gain: 0.5 / 1.25^(1/2.2).
    torch.testing.assert_close(developed, torch.full_like(grey, 0.5 / 1.25 ** (1 / 2.2)))


def test_brightening_and_the_tone_curve_bring_a_grey_back():
    camera = Camera(
        rgb2cam=torch.eye(3),
        rgb_gain=torch.tensor(1.25),
        red_gain=torch.tensor(2.1),
        blue_gain=torch.tensor(1.7),
    )
    for level in (0.1, 0.5, 0.8):
        grey = torch.full((3, 8, 8), level)
        developed = process(unprocess(grey, camera), camera, Rendering(tone="smoothstep", brighten=True))
        torch.testing.assert_close(developed, grey, **DISPLAY)


@pytest.mark.parametrize("pattern", CFA_PATTERNS)
@pytest.mark.parametrize("method", ["bilinear", "malvar"])
def test_a_rendering_is_its_steps_one_after_the_other(pattern, method):
    generator = torch.Generator().manual_seed(8)
    camera = replace(sample_camera(generator), pattern=pattern)
    packed = torch.rand((4, 6, 8), generator=generator) / 2
    rendering = Rendering(demosaic=method, transfer="srgb", tone="smoothstep", brighten=True)
    balanced = (packed * camera.plane_gains[:, None, None]).clamp(0, 1)
    linear = apply_ccm(demosaic(balanced, pattern, method), camera.cam2rgb) * camera.rgb_gain
    expected = smoothstep(srgb_compression(linear.clamp(0, 1)))
    torch.testing.assert_close(process(packed, camera, rendering), expected, **DISPLAY)


def test_values_below_black_survive_until_the_end_when_asked():
    generator = torch.Generator().manual_seed(8)
    camera = sample_camera(generator)
    packed = 0.02 + 0.05 * torch.randn((4, 64, 64), generator=generator)
    kept = process(packed, camera, Rendering(clip_black=False))
    linear = apply_ccm(demosaic(packed * camera.plane_gains[:, None, None], "RGGB"), camera.cam2rgb)
    torch.testing.assert_close(kept, linear.clamp(0, 1).clamp_min(1e-8) ** (1 / 2.2), **DISPLAY)
    # Cut before demosaicing, the noise of dark areas brightens them.
    assert process(packed, camera).mean() > kept.mean() + 0.015


def test_saturation_draws_linear_colours_to_their_mean_and_leaves_greys():
    generator = torch.Generator().manual_seed(8)
    camera = sample_camera(generator)
    packed = torch.rand((4, 12, 12), generator=generator) / 4
    full = process(packed, camera).clamp_min(1e-6) ** 2.2
    half = process(packed, camera, Rendering(saturation=0.5)) ** 2.2
    inside = ((full > 0.001) & (full < 0.99)).all(0)
    expected = (full + full.mean(0)) / 2
    torch.testing.assert_close(half[:, inside], expected[:, inside], rtol=1e-3, atol=1e-4)
    grey = process(packed, camera, Rendering(saturation=0.0))
    torch.testing.assert_close(grey[0], grey[2], **DISPLAY)


def test_arrays_go_in_and_come_out():
    camera = sample_camera(torch.Generator().manual_seed(9))
    image = torch.randint(256, (8, 10, 3), generator=torch.Generator().manual_seed(9), dtype=torch.uint8)
    channels_last = image.numpy().transpose(2, 0, 1)[:, ::-1]  # not contiguous, and backwards
    raw = unprocess(channels_last, camera)
    developed = process(raw, camera)
    assert type(raw) is type(developed) is np.ndarray
    expected = unprocess(image.permute(2, 0, 1).flip(1), camera)
    np.testing.assert_array_equal(raw, expected.numpy())
    np.testing.assert_array_equal(developed, process(expected, camera).numpy())


def test_saturated_white_stays_white():
    camera = sample_camera(torch.Generator().manual_seed(3))
    white = torch.ones(3, 8, 8)
    torch.testing.assert_close(process(unprocess(white, camera), camera), white, **DISPLAY)


def test_bytes_give_the_same_raw_as_their_floats():
    generator = torch.Generator().manual_seed(4)
    image = torch.randint(256, (3, 16, 16), generator=generator, dtype=torch.uint8)
    camera = sample_camera(generator)
    torch.testing.assert_close(unprocess(image, camera), unprocess(image / 255.0, camera), rtol=0, atol=1e-7)


@pytest.mark.parametrize(
    ("shape", "message"), [((3, 5, 8), "even height and width, got 5x8"), ((1, 8, 8), r"got \(1, 8, 8\)")]
)
def test_an_image_that_has_no_mosaic_is_refused(shape, message):
    with pytest.raises(ValueError, match=message):
        mosaic(torch.zeros(shape))
