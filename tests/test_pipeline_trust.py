"""Trust without clean images: denoisers that are bad in a known way fail the gate for that reason, good ones pass."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from scipy.stats import spearmanr
from skimage import data
from skimage.restoration import denoise_nl_means
from torch import Tensor

from models import AsymmetricMasks, InferenceSpec, UNetSpec, build, denoise
from pipeline.evaluation.baselines import nlm as baseline_nlm
from pipeline.evaluation.gate_board import gate_board
from pipeline.evaluation.trust import Denoise, beside_nlm, denoise_with, measure_trust
from pipeline.evaluation.trust_gate import judge
from pipeline.evaluation.trust_measures import HeldOutLosses, TrustMeasures, measures_as_json, measures_from_json

SIGMA = 12
SIDE = 96

Photos = tuple[Tensor, Tensor, NDArray[np.int64]]


def make_photos(sigma: float, width: float, smooth: float = 0) -> Photos:
    """Return noisy and clean crops, and their images; neighbours correlate the more, the larger `width`."""
    noisy, clean, images = [], [], []
    for number, photo in enumerate((data.astronaut(), data.coffee(), data.rocket())):
        random = np.random.default_rng(number)
        picture = gaussian_filter(photo[: 3 * SIDE, : 3 * SIDE].astype(np.float32) / 255, (smooth, smooth, 0))
        noise = gaussian_filter(random.standard_normal(picture.shape), (width, width, 0))
        spoilt = np.round(255 * np.clip(picture + sigma / 255 * noise / noise.std(), 0, 1)) / 255
        for top, left in ((0, 0), (0, SIDE), (SIDE, SIDE), (2 * SIDE, 2 * SIDE)):
            area = np.s_[top : top + SIDE, left : left + SIDE]
            noisy.append(spoilt[area].transpose(2, 0, 1))
            clean.append(picture[area].transpose(2, 0, 1))
            images.append(number)
    as_batch = [torch.from_numpy(np.stack(crops).astype(np.float32)) for crops in (noisy, clean)]
    return as_batch[0], as_batch[1], np.array(images)


@pytest.fixture(scope="module")
def photos() -> Photos:
    """Noise of deviation 12 in which neighbours correlate by 0.68."""
    return make_photos(SIGMA, 0.9)


def each(apply: Callable[[NDArray[np.float32]], NDArray[np.float32]]) -> Denoise:
    """Return a filter of (H, W, C) pictures as a denoiser of batches."""

    def run(crops: Tensor, _: Tensor) -> Tensor:
        done = [apply(crop.numpy().transpose(1, 2, 0)).transpose(2, 0, 1) for crop in crops]
        return torch.from_numpy(np.stack(done).astype(np.float32))

    return run


def blur(width: float) -> Denoise:
    return each(lambda picture: gaussian_filter(picture, (width, width, 0)))


def nlm(strength: float) -> Denoise:
    size = strength / 255
    return each(
        lambda picture: denoise_nl_means(
            picture, patch_size=5, patch_distance=6, h=size, sigma=size, fast_mode=True, channel_axis=2
        )
    )


def cast(denoiser: Denoise) -> Denoise:
    change = torch.tensor([5 / 255, 0, -5 / 255])[:, None, None]
    return lambda crops, which: denoiser(crops, which) + change


def identity(crops: Tensor, _: Tensor) -> Tensor:
    return crops


def measured(photos: Photos, denoiser: Denoise) -> TrustMeasures:
    noisy, _, images = photos
    return measure_trust(denoiser, noisy, images)


def test_the_truth_and_a_good_filter_pass(photos: Photos) -> None:
    clean = photos[1]
    perfect = judge(measured(photos, lambda _, which: clean[which]))
    assert perfect.passed
    assert perfect.why.startswith("noise left 0%, structure lost")
    assert judge(measured(photos, nlm(14))).passed


@pytest.mark.parametrize(
    ("denoiser", "reason"),
    [
        (identity, "100% of the noise comes through: train it longer"),
        (blur(0.5), "of the noise comes through"),
        (blur(1.5), "it blurs: the residual holds structure"),
        (blur(3.0), "it blurs: the residual holds structure"),
        (cast(nlm(14)), "brightness or colour is off by -4.9, +0.1, +5.0 of 255"),
        (lambda crops, _: crops * math.nan, "the output is not finite: training diverged"),
    ],
    ids=["identity", "hardly anything", "blur", "strong blur", "cast", "nan"],
)
def test_what_is_bad_in_a_known_way_fails_for_that_reason(denoiser: Denoise, reason: str, photos: Photos) -> None:
    gate = judge(measured(photos, denoiser))
    assert not gate.passed
    assert reason in gate.why


def test_the_estimated_error_ranks_denoisers_as_the_true_one_does(photos: Photos) -> None:
    noisy, clean, _ = photos
    denoisers = [identity, *map(blur, (0.5, 0.7, 1.0, 1.5, 3.0)), *map(nlm, (8, 14, 24)), cast(blur(0.7))]
    estimated = [measured(photos, denoiser).estimated_error for denoiser in denoisers]
    true = [
        float((denoiser(noisy, torch.arange(len(noisy))) - clean).square().mean() / (noisy - clean).square().mean())
        for denoiser in denoisers
    ]
    assert spearmanr(estimated, true).statistic > 0.8
    # Flat areas hold some texture, which is taken for noise, so the estimate is low.
    assert estimated[0] == pytest.approx(1, abs=1e-6)
    assert all(guess < truth + 0.05 for guess, truth in zip(estimated, true, strict=True))


def test_noise_is_measured_where_it_is_known(photos: Photos) -> None:
    found = measured(photos, identity)
    assert found.reliable
    assert found.noise_sigma == pytest.approx(SIGMA, rel=0.25)
    assert found.noise_correlation == pytest.approx([0.68, 0.29, 0.08, 0, 0], abs=0.12)
    assert (found.noise_passed, found.noise_left) == pytest.approx((1, 1), abs=1e-4)


def test_the_own_weight_is_one_for_the_identity_and_that_of_the_filter(photos: Photos) -> None:
    width = 0.7
    line = np.zeros(41)
    line[20] = 1
    centre = gaussian_filter(line, width)[20] ** 2
    assert measured(photos, identity).self_weight == pytest.approx(1, abs=1e-4)
    assert measured(photos, blur(width)).self_weight == pytest.approx(centre, abs=0.01)


def test_multi_mask_inference_of_any_weights_is_blind_and_direct_is_not(photos: Photos) -> None:
    noisy, _, images = photos
    network = build(UNetSpec(width=8, depth=1), seed=1).eval()
    torch.nn.init.normal_(network.head.weight, std=0.02, generator=torch.Generator().manual_seed(1))
    for mode, blind in (("multi_mask", True), ("direct", False)):
        found = measure_trust(denoise_with(network, InferenceSpec(mode=mode)), noisy, images, blind=True)
        assert (abs(found.self_weight) < 0.01) is blind
        assert ("sees the pixel that it predicts" in judge(found).why) is not blind


def test_a_network_no_better_than_the_fill_fails_and_a_better_one_does_not(photos: Photos) -> None:
    base = measured(photos, nlm(14))
    losses = HeldOutLosses(loss=0.03, loss_error=0.0001, loss_inference=0.03, loss_raw=0.03, loss_fill=0.0301)
    gate = judge(replace(base, losses=losses))
    assert "predicted no better than by the mean of their neighbours (held-out loss 0.0300 against 0.0301)" in gate.why
    assert judge(replace(base, losses=replace(losses, loss=0.028))).passed
    unsure = replace(losses, loss=0.028, loss_error=0.002)
    assert not judge(replace(base, losses=unsure)).passed


def test_crops_too_small_for_flat_areas_are_judged_by_what_is_left(photos: Photos) -> None:
    noisy, _, images = photos
    found = measure_trust(identity, noisy[..., :24, :24], images)
    assert math.isnan(found.noise_left)
    gate = judge(found)
    assert gate.passed
    assert gate.why.endswith("so noise and structure could not be told apart")
    assert not judge(measure_trust(cast(identity), noisy[..., :24, :24], images)).passed


def test_where_hardly_anything_is_flat_the_identity_fails_all_the_same(photos: Photos) -> None:
    unsure = replace(measured(photos, identity), reliable=False)
    assert "100% of the noise comes through" in judge(unsure).why
    # Texture passes for noise there, and a good denoiser keeps it.
    kept = replace(measured(photos, nlm(14)), noise_left=0.6)
    assert not judge(kept).passed
    assert judge(replace(kept, reliable=False)).passed


def test_an_estimate_that_texture_made_too_high_passes_below_that_of_non_local_means(photos: Photos) -> None:
    base = measured(photos, nlm(14))
    assert judge(replace(base, estimated_error=0.89, error_of_nlm=1.33)).passed
    worse = judge(replace(base, estimated_error=0.89, error_of_nlm=0.7))
    assert "estimated error 89% of that, that of non-local means 70%" in worse.why
    assert "estimated error 89% of that)" in judge(replace(base, estimated_error=0.89)).why
    assert judge(replace(base, estimated_error=0.5, error_of_nlm=0.4)).passed


def test_non_local_means_stand_beside_a_denoiser(photos: Photos) -> None:
    noisy, _, images = photos
    own = measured(photos, each(baseline_nlm))
    found = beside_nlm(measured(photos, identity), noisy, images)
    assert found.error_of_nlm == pytest.approx(own.estimated_error, abs=1e-6)
    assert found.error_of_nlm < 0.6 < found.estimated_error


def test_measures_survive_a_card_and_strangers_do_not(photos: Photos) -> None:
    losses = HeldOutLosses(loss=0.03, loss_error=0.0001, loss_inference=0.03, loss_raw=0.03, loss_fill=0.04)
    found = replace(measured(photos, nlm(14)), losses=losses)
    stored = json.loads(json.dumps(measures_as_json(found), allow_nan=False))
    again = measures_from_json(stored)
    assert again is not None
    assert judge(again).passed
    assert again.noise_left == pytest.approx(found.noise_left, rel=1e-4)
    older = {name: value for name, value in stored.items() if name != "error_of_nlm"}
    assert measures_from_json(older) == again
    assert len(gate_board({"passed": True, "why": "", "measures": stored})["rows"]) == 7
    for strange in (None, [], "x", {}, {**stored, "more": 1}, {**stored, "bias": 3}, {**stored, "losses": {"a": "b"}}):
        assert measures_from_json(strange) is None
    assert gate_board({"passed": "yes"}) is None
    assert gate_board({"passed": False, "why": "<b>", "measures": {}})["rows"] == []


def train(noisy: Tensor, pd_stride: int, steps: int) -> torch.nn.Module:
    """Train a small U-Net on the crops themselves, as `unveil train` does."""
    network = build(UNetSpec(width=8, depth=1), seed=0)
    optimizer = torch.optim.AdamW(network.parameters(), lr=8e-3)
    method = AsymmetricMasks(pd_stride=pd_stride, mask_count=2)
    for step in range(steps):
        rows = torch.arange(4) + 4 * (step % 3)
        loss = method.loss(network, noisy[rows], torch.arange(4) + 4 * step)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return network.eval()


def held_out(network: torch.nn.Module, noisy: Tensor, pd_stride: int) -> HeldOutLosses:
    method = AsymmetricMasks(pd_stride=pd_stride, mask_count=2)
    with torch.no_grad():
        own, fill = (
            np.array([float(method.loss(one, noisy[i : i + 1], torch.tensor([9**9 + i]))) for i in range(len(noisy))])
            for one in (network, _Nothing())
        )
    error = float((own - fill).std(ddof=1) / math.sqrt(len(own)))
    return HeldOutLosses(
        loss=own.mean(), loss_error=error, loss_inference=own.mean(), loss_raw=own.mean(), loss_fill=fill.mean()
    )


class _Nothing(torch.nn.Module):
    def forward(self, image: Tensor, **_: object) -> Tensor:
        return image


def test_trained_networks_are_told_from_an_untrained_one_and_from_one_that_learnt_the_noise() -> None:
    photos = make_photos(25, 0.7, smooth=1.5)
    noisy, clean, images = photos
    spec = InferenceSpec(mode="multi_mask", draws=2)
    gates, errors = {}, {}
    for name, pd_stride, steps in (("untrained", 3, 0), ("learnt the noise", 1, 200), ("good", 3, 200)):
        network = train(noisy, pd_stride, steps)
        losses = held_out(network, noisy, pd_stride)
        found = measure_trust(denoise_with(network, spec), noisy, images, losses=losses, blind=True)
        gates[name] = judge(found)
        errors[name] = float((denoise(network, noisy, spec) - clean).square().mean())
    assert errors["good"] < 0.7 * errors["learnt the noise"]
    assert gates["good"].passed, gates["good"].why
    assert "predicted no better than by the mean of their neighbours" in gates["untrained"].why
    assert "it learnt the noise: train with a larger method.pd_stride" in gates["learnt the noise"].why
