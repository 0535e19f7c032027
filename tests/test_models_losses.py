import math

import pytest
import torch

from models import (
    AsymmetricMasks,
    MaskedSwinSpec,
    MaskedTraining,
    UNetSpec,
    charbonnier,
    complementary_masks,
    fill_hidden,
    hide,
    input_mask,
    l1,
    log_mse,
    masked_l1,
    pd_down,
    pd_up,
    total_variation,
)
from models.build import build
from models.holes import Partition
from models.masks import uniform_ratio
from models.multi_mask import sub_image_seeds


def pair(batch: int = 2, size: int = 20, channels: int = 3) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    clean = torch.rand(batch, channels, size, size, generator=generator)
    noisy = clean + 0.1 * torch.randn(clean.shape, generator=generator)
    return noisy, clean, torch.arange(10, 10 + batch)


class Recorder(torch.nn.Module):
    """A network that keeps what it was shown and returns a scaled copy."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = torch.nn.Parameter(torch.tensor(0.5))
        self.seen: list[torch.Tensor] = []

    def forward(self, image: torch.Tensor, **_: object) -> torch.Tensor:
        self.seen.append(image)
        return self.scale * image


def test_masked_l1_is_the_mean_over_hidden_pixels_and_channels() -> None:
    prediction, target = torch.zeros(1, 2, 2, 2), torch.zeros(1, 2, 2, 2)
    target[0, :, 0, 0] = torch.tensor([1.0, 3.0])
    target[0, :, 1, 1] = 100.0
    mask = torch.tensor([[[[True, True], [False, False]]]])
    assert masked_l1(prediction, target, mask) == 1.0  # (1 + 3) / (2 hidden pixels * 2 channels)
    assert masked_l1(prediction, target, torch.zeros_like(mask)) == 0.0


def test_losses_are_float32_in_half_precision_too() -> None:
    prediction, target = torch.full((1, 1, 2, 2), 0.1, dtype=torch.bfloat16), torch.zeros(1, 1, 2, 2)
    mask = torch.ones(1, 1, 2, 2, dtype=torch.bool)
    for loss in (
        l1(prediction, target),
        charbonnier(prediction, target),
        masked_l1(prediction, target, mask),
    ):
        assert loss.dtype == torch.float32


def test_log_mse_is_the_mean_psnr_and_counts_every_sample_alike() -> None:
    clean = torch.zeros(2, 3, 8, 8)
    noisy = torch.stack([torch.full((3, 8, 8), 0.1), torch.full((3, 8, 8), 0.01)])
    mean_psnr = (20 + 40) / 2
    assert log_mse(noisy, clean, floor=0.0).item() * -10 / math.log(10) == pytest.approx(mean_psnr, abs=1e-4)
    noisy.requires_grad_()
    log_mse(noisy, clean, floor=0.0).backward()
    assert noisy.grad is not None
    # Halving either error is worth the same: gradient times error is equal.
    products = (noisy.grad * noisy.detach()).sum(dim=(1, 2, 3))
    assert products[0].item() == pytest.approx(products[1].item(), rel=1e-4)
    assert math.isfinite(log_mse(clean, clean).item())


def test_masked_training_minimises_the_error_it_is_told() -> None:
    noisy, clean, seeds = pair()
    network = Recorder()
    for error, measure in (("l1", l1), ("log_mse", log_mse)):
        method = MaskedTraining(input_ratio=(0.0, 0.0), error=error)
        assert torch.equal(method.loss(network, noisy, clean, seeds), measure(network(noisy, seeds=seeds), clean))
    with pytest.raises(ValueError, match="error must be 'l1' or 'log_mse', got 'l2'"):
        MaskedTraining(error="l2")


def test_charbonnier_is_epsilon_at_zero_and_absolute_far_away() -> None:
    zero = torch.zeros(1, 1, 2, 2)
    assert charbonnier(zero, zero).item() == pytest.approx(1e-3)
    assert charbonnier(zero + 5, zero).item() == pytest.approx(5.0, rel=1e-6)


def test_masked_training_shows_visible_pixels_and_compares_all_with_the_clean_image() -> None:
    noisy, clean, seeds = pair()
    network = Recorder()
    loss = MaskedTraining().loss(network, noisy, clean, seeds)
    mask = input_mask(seeds, uniform_ratio(seeds, 0.8, 0.9), 20, 20)
    shown = hide(noisy, mask, -0.1)
    assert torch.equal(network.seen[0], shown)
    torch.testing.assert_close(loss, (0.5 * shown - clean).abs().mean())


def test_masked_training_without_input_mask_shows_the_noisy_image() -> None:
    noisy, clean, seeds = pair()
    network = Recorder()
    MaskedTraining(input_ratio=(0.0, 0.0)).loss(network, noisy, clean, seeds)
    assert torch.equal(network.seen[0], noisy)


def test_asymmetric_training_runs_the_first_mask_once_and_compares_hidden_pixels() -> None:
    noisy, _, seeds = pair(size=23)
    network = Recorder()
    loss = AsymmetricMasks(pd_stride=5, mask_count=3).loss(network, noisy, seeds)
    sub_images = pd_down(noisy[..., :20, :20], 5)
    mask = complementary_masks(sub_image_seeds(seeds, 5), 3, 4, 4)[0]
    shown = fill_hidden(sub_images, mask, "mean")
    assert len(network.seen) == 1
    assert torch.equal(network.seen[0], shown)
    hidden = mask.expand_as(shown)
    torch.testing.assert_close(loss, (0.5 * shown - sub_images).abs()[hidden].mean())


def test_total_variation_is_the_mean_difference_of_neighbours() -> None:
    image = torch.tensor([[1.0, 2.0, 4.0], [1.0, 0.0, 4.0]])[None, None]
    assert total_variation(image) == pytest.approx((0 + 2 + 0) / 3 + (1 + 2 + 1 + 4) / 4)
    assert total_variation(image[..., :1, :1]) == 0.0
    assert total_variation(image.bfloat16()).dtype == torch.float32


@pytest.mark.parametrize("method", [{"pd_stride": 2, "mask_count": 3}, {"pd_stride": 1, "hole": (3, 1)}])
def test_the_smoothing_fine_tune_compares_the_full_multi_mask_output_and_smooths_it(method: dict[str, object]) -> None:
    noisy, _, seeds = pair(size=24)
    network = build(UNetSpec(width=8, depth=1, residual=False), seed=2)
    weighted = [AsymmetricMasks(**method, smoothing=value).loss(network, noisy, seeds) for value in (0.25, 0.5)]
    stride, partition = method["pd_stride"], Partition.of(AsymmetricMasks(**method))
    sub_images, sub_seeds = pd_down(noisy, stride), sub_image_seeds(seeds, stride)
    numbers = partition.numbers(sub_seeds, *sub_images.shape[-2:])
    output = torch.zeros_like(sub_images)
    for index in range(partition.count):
        targets, hidden = partition.mask(numbers, index)
        output = torch.where(targets, network(fill_hidden(sub_images, hidden, "mean")), output)
    # The prior sees the image put together again: the phases of downsampling side by side.
    prior, error = total_variation(pd_up(output, stride)), (output - sub_images).abs().mean()
    for value, loss in zip((0.25, 0.5), weighted, strict=True):
        torch.testing.assert_close(loss, value * prior + error)
    gradients = torch.autograd.grad(weighted[0], list(network.parameters()))
    expected = torch.autograd.grad(0.25 * prior + error, list(network.parameters()))
    for one, other in zip(gradients, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_a_fine_tune_is_one_call_of_the_network_as_distributed_training_needs() -> None:
    noisy, _, seeds = pair()
    network = Recorder()
    AsymmetricMasks(pd_stride=2, mask_count=3, smoothing=0.01).loss(network, noisy, seeds)
    assert [len(shown) for shown in network.seen] == [2 * 4 * 3]


def test_sub_images_of_one_image_have_masks_of_their_own() -> None:
    masks = complementary_masks(sub_image_seeds(torch.tensor([1, 2]), 3), 2, 32, 32)[0]
    assert masks.shape == (18, 1, 32, 32)
    assert masks.flatten(1).unique(dim=0).shape[0] == 18


@pytest.mark.parametrize("training", [MaskedTraining(), AsymmetricMasks(pd_stride=2)])
@pytest.mark.parametrize("channels", [1, 4])
def test_losses_are_differentiable_and_repeat_bit_for_bit(training: object, channels: int) -> None:
    noisy, clean, seeds = pair(channels=channels)
    gradients = []
    for _ in range(2):
        network = build(UNetSpec(channels=channels, width=8, depth=2, residual=False))
        if isinstance(training, MaskedTraining):
            loss = training.loss(network, noisy, clean, seeds)
        else:
            assert isinstance(training, AsymmetricMasks)
            loss = training.loss(network, noisy, seeds)
        loss.backward()
        assert loss.dtype == torch.float32
        gradients.append(torch.cat([value.grad.flatten() for value in network.parameters()]))
    assert gradients[0].abs().sum() > 0
    assert torch.equal(gradients[0], gradients[1])


@pytest.mark.parametrize(
    "spec", [UNetSpec(width=4, depth=1), MaskedSwinSpec(dim=12, depths=(2,), heads=(2,), window=4)]
)
def test_losses_are_float32_and_differentiable_under_bf16_autocast(spec: UNetSpec | MaskedSwinSpec) -> None:
    noisy, clean, seeds = pair()
    for training in (MaskedTraining(), AsymmetricMasks(pd_stride=2)):
        network = build(spec)
        with torch.autocast("cpu", torch.bfloat16):
            if isinstance(training, MaskedTraining):
                loss = training.loss(network, noisy, clean, seeds)
            else:
                loss = training.loss(network, noisy, seeds)
        loss.backward()
        assert loss.dtype == torch.float32
        assert all(torch.isfinite(value.grad).all() for value in network.parameters())


def test_a_crop_smaller_than_the_stride_is_refused() -> None:
    with pytest.raises(ValueError, match="pd_stride 5 is larger than the crop"):
        AsymmetricMasks().loss(Recorder(), torch.zeros(1, 3, 4, 20), torch.tensor([1]))


@pytest.mark.parametrize(
    ("build_spec", "field"),
    [
        (lambda: MaskedTraining(input_ratio=(0.9, 0.8)), "input_ratio"),
        (lambda: MaskedTraining(fill=float("nan")), "fill"),
        (lambda: AsymmetricMasks(pd_stride=0), "pd_stride"),
        (lambda: AsymmetricMasks(mask_count=1), "mask_count"),
        (lambda: AsymmetricMasks(fill="median"), "fill"),
        (lambda: AsymmetricMasks(smoothing=-0.1), "smoothing"),
        (lambda: AsymmetricMasks(smoothing=float("nan")), "smoothing"),
    ],
)
def test_an_impossible_setting_names_its_field(build_spec: object, field: str) -> None:
    with pytest.raises(ValueError, match=field):
        build_spec()
