"""Random-replacing refinement (R3): what its copies hold, what it costs, and that tiles and batches change nothing."""

import math

import pytest
import torch
from torch import Tensor, nn

from models import (
    InferenceSpec,
    MaskedSwinSpec,
    Network,
    UNetSpec,
    build,
    complementary_masks,
    denoise,
    describe_inference,
    fill_hidden,
    fold,
    multi_mask_denoise,
    refine,
)
from models.masks import replaced_pixels

SIGMAS = 5.0
SETTINGS = {"mask_count": 2, "fill": "mean", "seed": 3}


def image(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def unet(channels: int = 3) -> Network:
    """A small U-Net that is not the identity which a residual one starts as."""
    return build(UNetSpec(channels=channels, width=8, depth=1, residual=False)).eval()


class Recorder(Network):
    """Returns what it is shown, and keeps it."""

    def __init__(self) -> None:
        super().__init__()
        self.channels, self.multiple, self.reach, self.stochastic = 3, 1, 0, False
        self.anything = nn.Parameter(torch.zeros(1))
        self.shown: list[Tensor] = []

    def forward(self, image: Tensor, **_: object) -> Tensor:
        self.shown.append(image)
        return image


def test_a_copy_has_the_share_of_noisy_pixels_in_all_channels_and_is_denoised_blind() -> None:
    recorder = Recorder()
    denoised, noisy = torch.zeros(1, 3, 60, 50), torch.ones(1, 3, 60, 50)
    with torch.no_grad():
        output = refine(recorder, denoised, noisy, draws=4, share=0.25, mask_count=2, fill="zero", seed=3)
    # An echo of zeros in hidden pixels, at which alone the output is taken.
    assert torch.equal(output, torch.zeros_like(noisy))
    (shown,) = recorder.shown
    assert shown.shape == (8, 3, 60, 50)
    assert torch.equal(shown[:, :1].expand_as(shown), shown)
    seeds = torch.tensor([fold(3, 1)])
    for draw in range(4):
        copy = replaced_pixels(seeds, 0.25, draw, 60, 50)
        hidden = complementary_masks(seeds, 2, 60, 50, draw=draw)
        for index in range(2):
            assert torch.equal(shown[2 * draw + index, :1] > 0, (copy & ~hidden[index])[0])
        spread = SIGMAS * math.sqrt(0.25 * 0.75 / copy.numel())
        assert abs(float(copy.float().mean()) - 0.25) < spread
    copies = [replaced_pixels(seeds, 0.25, draw, 60, 50) for draw in range(4)]
    assert not any(torch.equal(copies[0], other) for other in copies[1:])


def test_the_refined_image_is_the_mean_over_the_copies() -> None:
    network = unet()
    noisy = image(1, 3, 20, 23)
    spec = InferenceSpec(mode="multi_mask", seed=3, refine_draws=3, refine_share=0.3)
    refined = denoise(network, noisy, spec)
    seeds = torch.tensor([fold(3, 1)])
    with torch.no_grad():
        first = multi_mask_denoise(network, noisy, pd_stride=1, draws=1, **SETTINGS)
        outputs = []
        for draw in range(3):
            copy = torch.where(replaced_pixels(seeds, 0.3, draw, 20, 23), noisy, first)
            masks = complementary_masks(seeds, 2, 20, 23, draw=draw)
            outputs.append(sum(torch.where(mask, network(fill_hidden(copy, mask, "mean")), 0.0) for mask in masks))
    torch.testing.assert_close(refined, sum(outputs) / 3, rtol=0, atol=1e-6)
    assert (refined - first).abs().max() > 1e-3


def test_a_pixel_is_refined_without_its_own_value_where_the_first_result_does_not_know_it() -> None:
    network = unet()
    noisy, denoised = image(1, 3, 20, 20), image(1, 3, 20, 20, seed=1)
    settings = {"draws": 3, "share": 0.5, **SETTINGS}
    one = [tensor.clone() for tensor in (noisy, denoised)]
    for tensor in one:
        tensor[..., 9, 11] += 0.5
    with torch.no_grad():
        before = refine(network, denoised, noisy, **settings)
        after = refine(network, one[1], one[0], **settings)
    assert torch.equal(before[..., 9, 11], after[..., 9, 11])
    assert not torch.equal(before, after)


@pytest.mark.parametrize("shape", [(1, 1), (5, 3), (21, 34)])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_any_size_and_number_of_channels_is_refined(shape: tuple[int, int], channels: int) -> None:
    noisy = image(2, channels, *shape)
    spec = InferenceSpec(mode="multi_mask", pd_stride=2, refine_draws=2)
    output = denoise(unet(channels), noisy, spec)
    assert output.shape == noisy.shape
    assert torch.isfinite(output).all()


@pytest.mark.parametrize(
    "spec",
    [
        InferenceSpec(mode="multi_mask", refine_draws=2, fill="smooth"),
        InferenceSpec(mode="multi_mask", refine_draws=2, pd_stride=2, seed=5),
        InferenceSpec(mode="multi_mask", refine_draws=1, hole=(3, 3), hole_shape="diamond", fill="smooth"),
    ],
)
def test_neither_tiles_nor_batches_nor_passes_change_a_refined_image(
    spec: InferenceSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = unet()
    batch = image(2, 3, 81, 70)
    whole = denoise(network, batch, spec, tile=1000)
    assert torch.equal(denoise(network, batch[1:], spec, tile=1000), whole[1:])
    tiled = denoise(network, batch[:1], spec, tile=24)
    torch.testing.assert_close(tiled, whole[:1], rtol=0, atol=1e-5)
    monkeypatch.setattr("models.tiling._PASS_PIXELS", 1)
    torch.testing.assert_close(denoise(network, batch[:1], spec, tile=1000), whole[:1], rtol=0, atol=1e-5)


def test_a_halo_for_one_run_of_the_network_is_too_small_for_two(monkeypatch: pytest.MonkeyPatch) -> None:
    # The test above would pass if tiles read the whole image.
    network = unet()
    noisy = image(1, 3, 96, 96)
    spec = InferenceSpec(mode="multi_mask", refine_draws=1, fill="smooth")
    whole = denoise(network, noisy, spec, tile=1000)
    monkeypatch.setattr("models.inference._tile_halo", lambda halo, _: halo)
    assert (denoise(network, noisy, spec, tile=24) - whole).abs().max() > 1e-5


def test_a_transformer_is_refined_with_attention_masks_of_its_own_in_every_pass() -> None:
    network = build(MaskedSwinSpec(dim=12, depths=(2,), heads=(2,), window=4)).eval()
    generator = torch.Generator().manual_seed(1)
    for name, parameter in network.named_parameters():
        if ".attention." in name:
            nn.init.normal_(parameter, std=0.5, generator=generator)
    noisy = image(1, 3, 40, 44)
    spec = InferenceSpec(mode="multi_mask", refine_draws=2, halo=24)
    whole = denoise(network, noisy, spec, tile=1000)
    torch.testing.assert_close(denoise(network, noisy, spec, tile=16), whole, rtol=0, atol=1e-5)
    off = denoise(network, noisy, InferenceSpec(mode="multi_mask", refine_draws=2, attention="off"))
    assert (off - whole).abs().max() > 1e-4


def test_passes_are_counted_as_they_are_run() -> None:
    for spec, passes in (
        (InferenceSpec(mode="multi_mask", refine_draws=8), 18),
        (InferenceSpec(mode="multi_mask", refine_draws=2, draws=3, mask_count=3), 15),
        (InferenceSpec(mode="multi_mask", refine_draws=4, hole=(3, 3), hole_shape="diamond"), 18),
        (InferenceSpec(refine_draws=8), 1),
    ):
        assert describe_inference(spec, stochastic=False)["passes"] == passes
        recorder = Recorder().eval()
        denoise(recorder, image(1, 3, 8, 8), spec)
        assert sum(len(shown) for shown in recorder.shown) == passes


def test_memory_does_not_grow_with_the_copies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("models.tiling._PASS_PIXELS", 2 * 32 * 32)
    recorder = Recorder().eval()
    denoise(recorder, image(1, 3, 70, 64), InferenceSpec(mode="multi_mask", refine_draws=8, halo=1), tile=24)
    assert sum(len(shown) for shown in recorder.shown) > 18
    # A tile of 24, half a ramp and the halo around it: never more than two at once.
    assert max(shown[:, 0].numel() for shown in recorder.shown) <= 2 * 54**2
    assert max(len(shown) for shown in recorder.shown) <= 2


@pytest.mark.parametrize(("field", "value"), [("refine_draws", -1), ("refine_share", 1.5), ("refine_share", math.nan)])
def test_an_impossible_refinement_names_its_field(field: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{field} must be"):
        InferenceSpec(**{field: value})
