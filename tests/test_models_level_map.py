"""The noise level as an input: computed from what the network is shown, for sub-images and draws alike."""

import pytest
import torch
from torch import Tensor, nn

from models import (
    AsymmetricMasks,
    InferenceSpec,
    UNet,
    UNetSpec,
    build,
    count_macs,
    denoise,
    level_map,
    load,
    measure_reach,
    multi_mask_denoise,
    pd_down,
    refine,
    save,
)
from models.export import Exportable

SPEC = UNetSpec(width=8, depth=1, residual=False, level_map=True)
NOISE = torch.tensor([[0.01, 1e-4], [0.04, 0.0]])


def image(*shape: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0))


def network() -> UNet:
    built = build(SPEC, seed=1).eval()
    assert isinstance(built, UNet)
    return built


def test_the_map_is_the_standard_deviation_at_the_mean_over_channels() -> None:
    shown = torch.tensor([0.2, 0.4]).view(1, 2, 1, 1).expand(2, 2, 3, 5)
    levels = level_map(shown, NOISE)
    assert levels.shape == (2, 1, 3, 5)
    expected = 10 * torch.tensor([0.01 * 0.3 + 1e-4, 0.04 * 0.3]).sqrt()
    torch.testing.assert_close(levels[:, 0, 0, 0], expected)
    # Below black there is read noise only.
    torch.testing.assert_close(
        level_map(shown - 1, NOISE)[:, 0, 0, 0], 10 * torch.tensor([0.01, 0.0]), rtol=0, atol=1e-6
    )


def test_a_map_of_nothing_has_a_finite_gradient() -> None:
    shown = torch.zeros(1, 1, 2, 2, requires_grad=True)
    level_map(shown, torch.zeros(1, 2)).sum().backward()
    assert shown.grad is not None
    assert torch.isfinite(shown.grad).all()


def test_the_output_depends_on_the_noise_parameters_of_each_image() -> None:
    both = image(1, 3, 9, 11).expand(2, 3, 9, 11)
    with torch.no_grad():
        output = network()(both, noise=NOISE)
        for index in range(2):
            alone = network()(both[:1], noise=NOISE[index : index + 1])
            torch.testing.assert_close(output[index : index + 1], alone, rtol=0, atol=1e-5)
    assert not torch.allclose(output[0], output[1], atol=1e-4)


@pytest.mark.parametrize("mode", ["direct", "multi_mask"])
@pytest.mark.parametrize("pd_stride", [1, 2])
def test_each_image_of_a_batch_is_told_its_own_noise_in_tiles_too(mode: str, pd_stride: int) -> None:
    told = network()
    batch = image(2, 3, 61, 50)
    spec = InferenceSpec(mode=mode, pd_stride=pd_stride, refine_draws=1)
    together = denoise(told, batch, spec, noise=NOISE)
    for index in range(2):
        alone = denoise(told, batch[index : index + 1], spec, noise=NOISE[index : index + 1])
        assert torch.equal(together[index : index + 1], alone)
    torch.testing.assert_close(denoise(told, batch, spec, noise=NOISE, tile=24), together, rtol=0, atol=1e-5)
    swapped = denoise(told, batch, spec, noise=NOISE.flip(0))
    assert (swapped - together).abs().max() > 1e-3


def test_sub_images_and_draws_are_told_the_noise_of_their_image() -> None:
    class Seen(nn.Module):
        def forward(self, shown: Tensor, *, noise: Tensor, **_: object) -> Tensor:
            # Which image a sub-image is of can be told by its level.
            first = shown.mean((1, 2, 3)) < 0.5
            assert torch.equal(noise, torch.where(first[:, None], NOISE[0], NOISE[1]))
            self.rows = len(noise)
            return shown

    batch = torch.tensor([0.1, 0.9]).view(2, 1, 1, 1).expand(2, 3, 12, 12)
    seen = Seen()
    settings = {"pd_stride": 2, "mask_count": 2, "draws": 3, "fill": "mean", "seed": 0}
    multi_mask_denoise(seen, batch, noise=NOISE, **settings)
    assert seen.rows == 2 * 4 * 6
    for smoothing, rows in ((0.0, 2 * 9), (0.01, 2 * 9 * 2)):
        AsymmetricMasks(pd_stride=3, smoothing=smoothing).loss(seen, batch, torch.tensor([1, 2]), noise=NOISE)
        assert seen.rows == rows
    assert len(pd_down(batch, 3)) == 2 * 9


def test_refinement_tells_the_mean_variance_of_its_copies() -> None:
    told: list[Tensor] = []

    class Seen(nn.Module):
        def forward(self, shown: Tensor, *, noise: Tensor, **_: object) -> Tensor:
            told.append(noise)
            return shown

    picture = image(2, 3, 8, 8)
    refine(Seen(), picture, picture, draws=1, share=0.25, mask_count=2, fill="mean", seed=0, noise=NOISE)
    assert len(told) == 1
    torch.testing.assert_close(told[0], 0.25 * NOISE.repeat(2, 1))


def test_a_hidden_pixel_does_not_leak_through_its_level() -> None:
    told = network()
    clean = image(1, 3, 24, 24)
    changed = clean.clone()
    changed[..., 10, 12] += 0.5
    settings = {"pd_stride": 2, "mask_count": 2, "draws": 2, "fill": "smooth", "seed": 4, "noise": NOISE[:1]}
    with torch.no_grad():
        one = multi_mask_denoise(told, clean, **settings)
        other = multi_mask_denoise(told, changed, **settings)
    assert torch.equal(one[..., 10, 12], other[..., 10, 12])
    assert not torch.equal(one, other)


def test_a_level_map_is_needed_exactly_where_the_network_has_one() -> None:
    picture = image(1, 3, 8, 8)
    plain = build(UNetSpec(width=8, depth=1)).eval()
    for call in (
        lambda net, **noise: net(picture, **noise),
        lambda net, **noise: denoise(net, picture, InferenceSpec(), **noise),
    ):
        with pytest.raises(ValueError, match=r"noise must be \(shot, read\) of each image"):
            call(network())
        with pytest.raises(ValueError, match="noise must be None"):
            call(plain, noise=NOISE[:1])
        with pytest.raises(ValueError, match=r"noise must have shape \(1, 2\)"):
            call(network(), noise=NOISE)
    with pytest.raises(ValueError, match="level map"):
        Exportable(network(), None)


def test_a_told_network_is_saved_counted_and_measured_like_others(tmp_path: object) -> None:
    from pathlib import Path

    folder = Path(str(tmp_path)) / "weights"
    told = network()
    save(folder, told, spec=SPEC, inference=InferenceSpec(mode="multi_mask"), card={})
    loaded = load(folder)
    assert loaded.network.level_map
    with torch.no_grad():
        assert torch.equal(loaded.network(image(2, 3, 8, 8), noise=NOISE), told(image(2, 3, 8, 8), noise=NOISE))
    plain = build(UNetSpec(width=8, depth=1, residual=False))
    assert count_macs(told, 16, 16) - count_macs(plain, 16, 16) == 9 * 8 * 16 * 16
    assert 1 <= measure_reach(told, size=64, positions=1) <= told.reach
