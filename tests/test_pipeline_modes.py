"""Inference modes on the command line: what is asked for, costs and was validated; offsets told and mended."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.data.images import Image, read_image, to_float, write_image
from pipeline.errors import UserError
from pipeline.inference.denoiser import NetworkDenoiser
from pipeline.inference.modes import with_mode
from pipeline.inference.offset import denoise_measured, mended, offset_of

Run = Callable[..., tuple[int, dict[str, Any] | None, str]]


def save_model(folder: Path, spec: Any, card: dict[str, Any] | None = None, **inference: Any) -> Path:
    """Write a small network whose attention and bias matter."""
    import torch

    from models import InferenceSpec, build, save

    network = build(spec)
    generator = torch.Generator().manual_seed(1)
    for name, parameter in network.named_parameters():
        if ".attention." in name:
            torch.nn.init.normal_(parameter, std=0.5, generator=generator)
        if name == "head.bias":
            torch.nn.init.constant_(parameter, 0.05)
    save(folder, network, spec=spec, inference=InferenceSpec(**inference), card=card or {})
    return folder


@pytest.fixture
def swin(tmp_path: Path) -> Path:
    from models import MaskedSwinSpec

    return save_model(tmp_path / "swin", MaskedSwinSpec(dim=8, depths=(2,), heads=(2,), window=4))


@pytest.fixture
def tinted(tmp_path: Path) -> Path:
    """A U-Net that is the identity but for 0.05 of brightness."""
    from models import UNetSpec

    return save_model(tmp_path / "unet", UNetSpec(width=4, depth=1))


@pytest.fixture
def pairs(tmp_path: Path, photo: np.ndarray) -> Path:
    """Two noisy and clean pairs of 96x96, with no black and white."""
    clean = (60 + photo.astype(float) * 0.5)[:192, :96].round().astype(np.uint8)
    noise = np.random.default_rng(0).normal(0, 10, clean.shape)
    noisy = (clean + noise).round().clip(0, 255).astype(np.uint8)
    for side, pixels in (("noisy", noisy), ("clean", clean)):
        (tmp_path / "pairs" / side).mkdir(parents=True)
        for index in range(2):
            part = pixels[96 * index : 96 * index + 96]
            write_image(tmp_path / "pairs" / side / f"p{index}.png", Image(pixels=part))
    return tmp_path / "pairs"


def described(folder: Path, **asked: Any) -> dict[str, Any]:
    denoiser, _ = with_mode(NetworkDenoiser(folder), **asked)
    assert isinstance(denoiser, NetworkDenoiser)
    return denoiser.describe()


@pytest.mark.parametrize(
    ("asked", "attention", "draws"),
    [
        ({}, "seeded", 1),
        ({"attention": "off"}, "off", 1),
        ({"attention": "seeded"}, "seeded", 1),
        ({"attention": "ensemble"}, "ensemble", 8),
        ({"attention": "ensemble", "draws": 3}, "ensemble", 3),
        ({"draws": 4}, "ensemble", 4),
        ({"offset": "level"}, "seeded", 1),
    ],
)
def test_what_is_asked_for_is_what_is_done(swin: Path, asked: dict[str, Any], attention: str, draws: int) -> None:
    mode = described(swin, **asked)
    assert (mode["attention"], mode["draws"], mode["passes"]) == (attention, draws, draws)
    assert mode["offset"] == asked.get("offset", "keep")


def test_cards_from_before_ensembles_had_a_name_still_average_their_draws(tmp_path: Path) -> None:
    from models import MaskedSwinSpec

    spec = MaskedSwinSpec(dim=8, depths=(2,), heads=(2,), window=4)
    old, new = save_model(tmp_path / "old", spec, draws=3), save_model(tmp_path / "new", spec)
    document = json.loads((old / "model.json").read_text())
    for key in ("offset",):
        del document["inference"][key]
    (old / "model.json").write_text(json.dumps(document))
    assert described(old)["attention"] == "ensemble"
    assert described(old, draws=1)["attention"] == "seeded"
    assert described(old, attention="seeded")["draws"] == 1
    assert described(old, attention="ensemble")["draws"] == 3
    picture = np.random.default_rng(0).random((20, 24, 3), dtype=np.float32)
    named, _ = with_mode(NetworkDenoiser(new), attention="ensemble", draws=3)
    assert np.array_equal(NetworkDenoiser(old)(picture), named(picture))


def test_draws_of_blind_prediction_are_kept_by_the_attention_modes(tmp_path: Path) -> None:
    from models import MaskedSwinSpec

    spec = MaskedSwinSpec(dim=8, depths=(2,), heads=(2,), window=4)
    folder = save_model(tmp_path / "m", spec, mode="multi_mask", draws=4, mask_count=3)
    for attention, name in (("seeded", "ensemble"), ("off", "off")):
        mode = described(folder, attention=attention)
        assert (mode["attention"], mode["draws"], mode["passes"]) == (name, 4, 12)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"attention": "on"}, "--attention: expected one of seeded, ensemble, off, found 'on'"),
        ({"offset": "global"}, "--offset: expected one of keep, level, found 'global'"),
        ({"attention": "ensemble", "draws": 1}, "--draws: expected at least 2 with --attention ensemble, found 1"),
        ({"attention": "off", "draws": 4}, "--draws: expected something to draw at random"),
        ({"draws": 5000}, "--draws: draws must be 1 to 1024, got 5000"),
    ],
)
def test_a_mode_that_means_nothing_is_one_line(swin: Path, asked: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        described(swin, **asked)


def test_a_network_without_attention_masks_has_no_such_modes(tinted: Path) -> None:
    assert described(tinted)["attention"] == "none"
    for asked in ({"attention": "off"}, {"draws": 2}):
        with pytest.raises(UserError, match=r"found (one|a mode) without"):
            described(tinted, **asked)
    with pytest.raises(UserError, match="found another kind of denoiser"):
        with_mode(lambda image: image, offset="level")


def test_the_offset_of_each_file_is_told_and_mended(unveil: Run, tinted: Path, pairs: Path, tmp_path: Path) -> None:
    source = pairs / "noisy"
    code, kept, text = unveil("denoise", source, "--model", tinted, "--out", tmp_path / "kept", "--json")
    assert (code, text) == (0, "")
    assert kept is not None
    for file in kept["files"]:
        # The output is the input and 0.05, so noise cancels to the last bit.
        assert file["offset"]["mean_255"] == pytest.approx([12.75] * 3, abs=1e-3)
        assert file["offset"]["smooth_255"] == pytest.approx(12.75, abs=1e-2)
        assert (file["offset"]["visible"], file["offset"]["corrected"]) == (True, False)
    assert kept["mode"] == {
        "mode": "direct", "attention": "none", "draws": 1, "passes": 1, "seed": 0, "offset": "keep",
    }  # fmt: skip
    assert kept["warning"] is None
    arguments = ("denoise", source, "--model", tinted, "--out", tmp_path / "level", "--offset", "level")
    _, level, _ = unveil(*arguments, "--json")
    assert level is not None
    assert all(file["offset"]["corrected"] for file in level["files"])
    noisy, output = (to_float(read_image(folder / "p0.png").pixels) for folder in (source, tmp_path / "level"))
    assert 255 * abs(output - noisy).mean() < 1
    _, _, told = unveil("denoise", source, "--model", tinted, "--out", tmp_path / "kept", "--overwrite")
    assert "brightness or colour is off in 2 of 2 files, most by 12.8/255" in " ".join(told.split())
    assert "--offset level mends it" in told
    _, _, told = unveil(*arguments, "--overwrite")
    assert "mended" in told


def test_alpha_is_neither_measured_nor_mended(tinted: Path, pairs: Path) -> None:
    colour = to_float(read_image(pairs / "noisy" / "p0.png").pixels)
    image = np.concatenate([colour, np.full_like(colour[..., :1], 0.3)], axis=2)
    wrong = np.concatenate([colour * np.float32(0.8), image[..., 3:]], axis=2)
    assert np.array_equal(mended(image, wrong, "level")[..., 3], image[..., 3])
    found = offset_of(image, wrong)
    assert found is not None
    assert len(found["mean_255"]) == 3
    result, found = denoise_measured(lambda picture: picture, image[..., :2])
    assert result.shape == (96, 96, 2)
    assert found is not None
    assert found["mean_255"] == [0.0]


def test_small_pictures_have_no_offset_and_are_denoised_all_the_same(tinted: Path) -> None:
    denoiser, _ = with_mode(NetworkDenoiser(tinted), offset="level")
    image = np.full((5, 7, 3), 0.5, np.float32)
    result, found = denoise_measured(denoiser, image)
    assert found is None
    assert result == pytest.approx(0.55, abs=1e-6)


def test_an_evaluation_shows_both_sides_of_the_offset_and_what_it_cost(unveil: Run, tinted: Path, pairs: Path) -> None:
    arguments = ("evaluate", "--model", tinted, "--data", pairs, "--baselines", "")
    _, kept, _ = unveil(*arguments, "--json")
    _, level, _ = unveil(*arguments, "--offset", "level", "--json")
    assert kept is not None
    assert level is not None
    ours = [found["sets"][0]["methods"]["unet"] for found in (kept, level)]
    psnr = [method["metrics"]["psnr_rgb_u8"]["mean"] for method in ours]
    assert ours[0]["by_offset"] == ours[1]["by_offset"]
    assert psnr == [ours[0]["by_offset"][how]["psnr_rgb_u8"] for how in ("keep", "level")]
    # 20 log10(255 / rms) of noise of 10 with and without an offset of 12.75.
    assert psnr[0] == pytest.approx(20 * np.log10(255 / np.hypot(10, 12.75)), abs=0.2)
    assert psnr[1] == pytest.approx(20 * np.log10(25.5), abs=0.2)
    assert ours[0]["visible_offsets"] == 2
    assert ours[0]["seconds_per_megapixel"] > 0
    assert [found["models"][0]["mode"]["offset"] for found in (kept, level)] == ["keep", "level"]
    _, _, told = unveil(*arguments)
    assert "unet with --offset level" in told
    assert "visibly off in 2 of 2 images" in told
    assert "1 x the network" in told


def test_what_a_model_was_validated_with_is_recorded_and_another_mode_is_noted(
    unveil: Run, swin: Path, pairs: Path, tmp_path: Path
) -> None:
    def warned(*more: object) -> str | None:
        out = ("--out", tmp_path / "out", "--overwrite", "--json")
        _, answer, text = unveil("denoise", pairs / "noisy", "--model", swin, *out, *more)
        assert answer is not None
        assert (answer["warning"] is None) == ("note:" not in text)
        return answer["warning"]

    assert warned() is None
    assert warned("--attention", "off") == (
        "denoising with attention masks off; the model was validated with no mode at all, and is meant for seeded "
        "attention masks"
    )
    arguments = ("evaluate", "--model", swin, "--data", pairs, "--baselines", "", "--json")
    _, found, _ = unveil(*arguments, "--attention", "ensemble", "--draws", 2, "--record")
    assert found is not None
    denoiser = NetworkDenoiser(swin)
    validated = denoiser.card["validated"]
    assert validated["mode"]["attention"] == "ensemble"
    assert (validated["mode"]["draws"], validated["mode"]["seed"], validated["n"]) == (2, 0, 2)
    assert validated["metrics"]["psnr_rgb_u8"] == found["sets"][0]["methods"]["swin"]["metrics"]["psnr_rgb_u8"]["mean"]
    assert len(validated["data_hash"]) == 64
    assert warned("--attention", "ensemble", "--draws", 2) is None
    assert warned("--attention", "off") == (
        "denoising with attention masks off; the model was validated with an ensemble of 2 draws of the attention masks"
    )
    assert warned() == (
        "denoising with seeded attention masks; the model was validated with an ensemble of 2 draws of the attention "
        "masks"
    )
    _, shown, _ = unveil("models", "show", swin, "--json")
    assert shown is not None
    assert shown["card"]["validated"] == validated


def test_a_registered_model_is_not_recorded_into(unveil: Run, pairs: Path) -> None:
    code, _, text = unveil("evaluate", "--model", "models:/unveil@champion", "--data", pairs, "--record")
    assert code == 2
    assert "registered models do not change" in " ".join(text.split())


def test_a_card_with_nonsense_under_validated_is_taken_for_none(tmp_path: Path) -> None:
    from models import MaskedSwinSpec

    spec = MaskedSwinSpec(dim=8, depths=(2,), heads=(2,), window=4)
    for index, validated in enumerate(("yes", {"mode": 3}, None)):
        folder = save_model(tmp_path / str(index), spec, card={"validated": validated})
        _, warning = with_mode(NetworkDenoiser(folder), attention="off")
        assert warning is not None
        assert "no mode at all" in warning
