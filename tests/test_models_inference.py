import dataclasses

import pytest
import torch
from torch import Tensor

from models import (
    InferenceSpec,
    MaskedSwinSpec,
    Network,
    UNetSpec,
    denoise,
    describe_inference,
    fold,
    multi_mask_denoise,
)
from models.build import build
from models.multi_mask import sub_image_seeds
from models.tiling import tiles

SWIN = MaskedSwinSpec(dim=12, depths=(2,), heads=(2,), window=4)


def noisy(*shape: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0))


def unet() -> Network:
    """A U-Net that is not the identity which a residual one starts as."""
    return build(UNetSpec(width=8, depth=2, residual=False)).eval()


def swin(channels: int = 3) -> Network:
    """A transformer whose attention matters: at its initial weights it changes the output by 1e-5."""
    network = build(dataclasses.replace(SWIN, channels=channels)).eval()
    generator = torch.Generator().manual_seed(1)
    for name, parameter in network.named_parameters():
        if ".attention." in name:
            torch.nn.init.normal_(parameter, std=0.5, generator=generator)
    return network


class Echo(Network):
    """Returns its input, so that blind prediction can be told from copying."""

    def __init__(self, channels: int = 3, multiple: int = 1) -> None:
        super().__init__()
        self.channels, self.multiple, self.reach, self.stochastic = channels, multiple, 0, False
        self.anything = torch.nn.Parameter(torch.zeros(1))
        self.calls: list[tuple[int, ...]] = []

    def forward(self, image: Tensor, **_: object) -> Tensor:
        self.calls.append(tuple(image.shape))
        return image


@pytest.mark.parametrize(
    ("height", "width", "tile", "halo", "multiple"),
    [(100, 64, 32, 8, 8), (33, 97, 32, 5, 4), (7, 1000, 100, 16, 24), (65, 65, 64, 0, 1), (5, 5, 2, 3, 1)],
)
def test_weights_of_all_tiles_add_up_to_one(height: int, width: int, tile: int, halo: int, multiple: int) -> None:
    total = torch.zeros(1, 1, height, width)
    for area in tiles(height, width, tile=tile, halo=halo, multiple=multiple):
        part = area.read(total)
        area.add(total, torch.ones_like(part))
        for span, length in ((area.rows, height), (area.columns, width)):
            assert span.read_start % multiple == 0
            assert span.read_start <= max(0, span.keep_start - halo)
            assert span.read_stop >= min(length, span.keep_stop + halo)
    torch.testing.assert_close(total, torch.ones_like(total), rtol=0, atol=1e-6)


def test_weights_of_the_usual_ramp_are_exact() -> None:
    total = torch.zeros(1, 1, 300, 200)
    for area in tiles(300, 200, tile=64, halo=16, multiple=8):
        area.add(total, torch.ones_like(area.read(total)))
    assert torch.equal(total, torch.ones_like(total))


@pytest.mark.parametrize("mode", ["direct", "multi_mask"])
@pytest.mark.parametrize("pd_stride", [1, 2, 3])
def test_a_tiled_image_equals_the_whole_image_for_a_network_with_a_finite_reach(mode: str, pd_stride: int) -> None:
    network = unet()
    image = noisy(1, 3, 203, 181)
    spec = InferenceSpec(mode=mode, pd_stride=pd_stride, draws=2)
    whole = denoise(network, image, spec, tile=1000)
    tiled = denoise(network, image, spec, tile=48)
    torch.testing.assert_close(tiled, whole, rtol=0, atol=1e-5)
    # 8-bit values agree but for those within that distance of the middle of two steps.
    assert ((tiled * 255).round() != (whole * 255).round()).float().mean() < 1e-3


def test_too_small_a_halo_shows() -> None:
    # The test above would pass if tiles read the whole image, or if the network ignored context.
    network = unet()
    image = noisy(1, 3, 128, 128)
    whole = denoise(network, image, InferenceSpec(), tile=1000)
    tiled = denoise(network, image, InferenceSpec(halo=1), tile=32)
    assert (tiled - whole).abs().max() > 1e-3


def test_a_tiled_transformer_sees_the_masks_of_the_whole_image() -> None:
    network = swin()
    image = noisy(1, 3, 96, 80)
    for spec in (InferenceSpec(halo=24), InferenceSpec(halo=24, mode="multi_mask", pd_stride=2)):
        whole = denoise(network, image, spec, tile=1000)
        tiled = denoise(network, image, spec, tile=32 * spec.pd_stride)
        other = denoise(network, image, dataclasses.replace(spec, seed=1), tile=1000)
        # Two blocks with windows of 4 and five 3x3 convolutions reach less than 24 pixels.
        torch.testing.assert_close(tiled, whole, rtol=0, atol=1e-5)
        assert (other - whole).abs().max() > 1e-4


@pytest.mark.parametrize("spec", [InferenceSpec(draws=2), InferenceSpec(mode="multi_mask", pd_stride=2)])
@pytest.mark.parametrize("kind", ["unet", "swin"])
def test_an_image_has_the_same_bytes_alone_and_in_a_batch(spec: InferenceSpec, kind: str) -> None:
    network = unet() if kind == "unet" else swin()
    images = noisy(3, 3, 33, 30)
    together = denoise(network, images, spec)
    alone = denoise(network, images[1:2], spec)
    assert torch.equal(together[1:2], alone)
    assert torch.equal(denoise(network, images, spec), together)


@pytest.mark.parametrize("kind", ["unet", "swin"])
def test_the_number_of_threads_does_not_change_an_8_bit_image(kind: str) -> None:
    network = unet() if kind == "unet" else swin()
    image = noisy(1, 3, 64, 64)
    before = torch.get_num_threads()
    outputs = []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            outputs.append(denoise(network, image, InferenceSpec(mode="multi_mask")))
    finally:
        torch.set_num_threads(before)
    torch.testing.assert_close(outputs[0], outputs[1], rtol=0, atol=1e-6)
    assert torch.equal((outputs[0] * 255).round(), (outputs[1] * 255).round())


@pytest.mark.parametrize("shape", [(1, 1), (1, 8), (5, 3), (31, 34)])
@pytest.mark.parametrize("mode", ["direct", "multi_mask"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_any_image_size_and_channel_count_works(shape: tuple[int, int], mode: str, channels: int) -> None:
    image = noisy(1, channels, *shape)
    for network in (
        build(UNetSpec(channels=channels, width=4, depth=2)).eval(),
        swin(channels),
    ):
        output = denoise(network, image, InferenceSpec(mode=mode, pd_stride=5, draws=2))
        assert output.shape == image.shape
        assert output.dtype == torch.float32
        assert torch.isfinite(output).all()


@pytest.mark.parametrize("fill", ["zero", "mean"])
def test_multi_mask_prediction_of_a_pixel_ignores_its_own_value(fill: str) -> None:
    network = unet()
    image = noisy(1, 3, 24, 24)
    changed = image.clone()
    changed[..., 10, 12] += 0.5
    settings = {"pd_stride": 2, "mask_count": 3, "draws": 2, "fill": fill, "seed": 4}
    with torch.no_grad():
        one = multi_mask_denoise(network, image, **settings)
        other = multi_mask_denoise(network, changed, **settings)
    assert torch.equal(one[..., 10, 12], other[..., 10, 12])
    assert not torch.equal(one, other)


def test_multi_mask_with_an_echo_gives_the_fill_everywhere() -> None:
    # Every pixel is hidden exactly once a draw, so an echo of the input returns the fill and never the image.
    network = Echo().eval()
    image = noisy(1, 3, 12, 12) + 1
    settings = {"pd_stride": 2, "mask_count": 2, "draws": 3, "seed": 0}
    assert torch.equal(multi_mask_denoise(network, image, fill="zero", **settings), torch.zeros_like(image))
    flat = multi_mask_denoise(network, torch.full_like(image, 0.25), fill="mean", **settings)
    torch.testing.assert_close(flat, torch.full_like(image, 0.25))


def test_multi_mask_chunks_bound_the_size_of_a_pass_and_change_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    network = unet()
    image = noisy(1, 3, 32, 32)
    settings = {"pd_stride": 2, "mask_count": 2, "draws": 3, "fill": "mean", "seed": 0}
    with torch.no_grad():
        at_once = multi_mask_denoise(network, image, **settings)
        monkeypatch.setattr("models.tiling._PASS_PIXELS", 2 * 32 * 32)
        chunked = multi_mask_denoise(network, image, **settings)
        echo = Echo()
        multi_mask_denoise(echo, image, **settings)
    torch.testing.assert_close(at_once, chunked, rtol=0, atol=1e-6)
    assert [shape[0] for shape in echo.calls] == [8, 8, 8]


def test_draws_average_independent_draws() -> None:
    network = unet()
    image = noisy(1, 3, 16, 16)
    settings = {"pd_stride": 1, "mask_count": 2, "fill": "mean", "seed": 0}
    with torch.no_grad():
        one = multi_mask_denoise(network, image, draws=1, **settings)
        two = multi_mask_denoise(network, image, draws=2, **settings)
        # the second draw alone is what is left of the mean
        second = 2 * two - one
        assert not torch.allclose(second, one, atol=1e-4)


def test_attention_off_is_the_network_without_masks() -> None:
    network = swin()
    image = noisy(1, 3, 16, 16)
    off = denoise(network, image, InferenceSpec(attention="off", draws=5))
    with torch.no_grad():
        torch.testing.assert_close(off, network(image), rtol=0, atol=1e-6)
    assert not torch.allclose(off, denoise(network, image, InferenceSpec()), atol=1e-4)


def test_draws_of_direct_mode_average_different_attention_masks() -> None:
    network = swin()
    image = noisy(1, 3, 16, 16)
    averaged = denoise(network, image, InferenceSpec(draws=3, seed=5))
    with torch.no_grad():
        outputs = [network(image, seeds=sub_image_seeds(torch.tensor([fold(5, draw)]), 1)) for draw in range(3)]
    assert (outputs[0] - outputs[1]).abs().max() > 1e-3
    torch.testing.assert_close(averaged, torch.stack(outputs).mean(0), rtol=0, atol=1e-6)


def test_draws_of_a_deterministic_network_cost_one_pass() -> None:
    network = Echo().eval()
    denoise(network, noisy(1, 3, 8, 8), InferenceSpec(draws=7))
    assert len(network.calls) == 1


def test_the_halo_covers_the_receptive_field_by_default() -> None:
    network = build(UNetSpec(residual=False)).eval()
    image = noisy(1, 3, 40, 400)
    spec = InferenceSpec()
    whole = denoise(network, image, spec, tile=1000)
    tiled = denoise(network, image, spec, tile=200)
    torch.testing.assert_close(tiled, whole, rtol=0, atol=1e-5)


def test_misuse_is_refused() -> None:
    network = build(UNetSpec(width=4, depth=1))
    with pytest.raises(ValueError, match="training mode"):
        denoise(network, noisy(1, 3, 8, 8), InferenceSpec())
    with pytest.raises(ValueError, match="shape"):
        denoise(network.eval(), noisy(1, 1, 8, 8), InferenceSpec())
    with pytest.raises(ValueError, match="origin must be a multiple of pd_stride 2"):
        multi_mask_denoise(
            network,
            noisy(1, 3, 8, 8),
            pd_stride=2,
            mask_count=2,
            draws=1,
            fill="mean",
            seed=0,
            origin=(1, 0),
        )


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("mode", "blind"),
        ("fill", "median"),
        ("attention", "on"),
        ("offset", "local"),
        ("pd_stride", 0),
        ("draws", 0),
        ("halo", -1),
    ],
)
def test_an_impossible_spec_names_its_field(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"{field} must be"):
        InferenceSpec(**{field: value})


def test_an_ensemble_of_one_draw_is_refused() -> None:
    with pytest.raises(ValueError, match="draws must be at least 2 for attention 'ensemble', got 1"):
        InferenceSpec(attention="ensemble")


@pytest.mark.parametrize(
    ("spec", "stochastic", "attention", "draws", "passes"),
    [
        (InferenceSpec(), True, "seeded", 1, 1),
        (InferenceSpec(draws=4), True, "ensemble", 4, 4),
        (InferenceSpec(attention="ensemble", draws=4), True, "ensemble", 4, 4),
        (InferenceSpec(attention="off", draws=4), True, "off", 1, 1),
        (InferenceSpec(draws=4), False, "none", 1, 1),
        (InferenceSpec(mode="multi_mask", draws=4, mask_count=3), False, "none", 4, 12),
        (InferenceSpec(mode="multi_mask", attention="off", draws=4), True, "off", 4, 8),
    ],
)
def test_a_spec_is_described_as_what_the_network_does_and_costs(
    spec: InferenceSpec, stochastic: bool, attention: str, draws: int, passes: int
) -> None:
    facts = describe_inference(spec, stochastic=stochastic)
    assert (facts["attention"], facts["draws"], facts["passes"]) == (attention, draws, passes)
    network = Echo().eval()
    network.stochastic = stochastic
    denoise(network, noisy(1, 3, 8, 8), spec)
    assert sum(shape[0] for shape in network.calls) == passes


def test_draws_of_attention_masks_go_through_the_network_together_as_far_as_memory_allows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    network = Echo().eval()
    network.stochastic = True
    image = noisy(1, 3, 16, 16)
    monkeypatch.setattr("models.tiling._PASS_PIXELS", 3 * 16 * 16)
    torch.testing.assert_close(denoise(network, image, InferenceSpec(draws=8)), image, rtol=0, atol=1e-6)
    assert [shape[0] for shape in network.calls] == [3, 3, 2]
