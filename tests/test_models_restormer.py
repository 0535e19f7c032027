"""Restormer: its parts against plain numpy, its size against the paper, and what a tile does."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from models import InferenceSpec, RestormerSpec, build, load, save
from models.build import build_empty, spec_from_dict
from models.restormer import GatedFeedForward, PixelNorm, TransformerBlock, TransposedAttention
from models.spec_io import spec_to_dict

PAPER = {"dim": 48, "blocks": (4, 6, 6, 8), "heads": (1, 2, 4, 8), "refinement": 4, "expansion": 2.66}
TINY = RestormerSpec(channels=1, dim=4, blocks=(1, 1), heads=(1, 2), refinement=1)


def noise(*shape: int, seed: int = 0, double: bool = True) -> Tensor:
    dtype = torch.float64 if double else torch.float32
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def awake(network: nn.Module) -> nn.Module:
    """The same network with random weights in place of the zeros it starts with."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():
            if not parameter.any():
                parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
    return network


def random(module: nn.Module, scale: float = 1.0) -> nn.Module:
    """The same module in float64 with all weights normal."""
    generator = torch.Generator().manual_seed(1)
    for parameter in module.double().parameters():
        nn.init.normal_(parameter, std=scale, generator=generator)
    return module


@pytest.mark.parametrize("shape", [(1, 1), (1, 17), (7, 3), (8, 8), (33, 50)])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_any_image_size_keeps_its_size(shape: tuple[int, int], channels: int) -> None:
    spec = RestormerSpec(channels=channels, dim=8, heads=(1, 2, 2, 4), residual=False)
    image = noise(2, channels, *shape, double=False)
    output = build(spec).eval()(image)
    assert output.shape == image.shape
    assert torch.isfinite(output).all()


def test_the_papers_configuration_has_the_published_number_of_parameters() -> None:
    def count(**values: object) -> int:
        return sum(parameter.numel() for parameter in build_empty(RestormerSpec(**values)).parameters())

    assert count(**PAPER) == 26_111_668  # 26.11 M, bias-free, as for denoising
    assert count(**PAPER, norm="with_bias") == 26_126_644  # 26.13 M, as for the other tasks
    assert count() == 1_005_683


def test_a_residual_network_starts_as_the_identity() -> None:
    image = noise(1, 3, 19, 21, double=False)
    assert torch.equal(build(RestormerSpec(dim=8))(image), image)
    assert torch.equal(build(RestormerSpec(dim=8, bias=True))(image), image)
    assert not torch.equal(build(RestormerSpec(dim=8, residual=False))(image), image)


def weights_of(module: nn.Module) -> dict[str, np.ndarray]:
    return {name: value.detach().numpy() for name, value in module.state_dict().items()}


def pointwise(x: np.ndarray, weights: dict[str, np.ndarray], name: str) -> np.ndarray:
    return np.einsum("oi,ihw->ohw", weights[f"{name}.weight"][:, :, 0, 0], x) + bias(weights, name)


def depthwise(x: np.ndarray, weights: dict[str, np.ndarray]) -> np.ndarray:
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1)))
    result = np.zeros_like(x) + bias(weights, "depthwise")
    for row, column in itertools.product(range(3), range(3)):
        tap = weights["depthwise.weight"][:, 0, row, column][:, None, None]
        result += tap * padded[:, row : row + x.shape[1], column : column + x.shape[2]]
    return result


def bias(weights: dict[str, np.ndarray], name: str) -> np.ndarray:
    return weights.get(f"{name}.bias", np.zeros(len(weights[f"{name}.weight"])))[:, None, None]


def numpy_attention(module: TransposedAttention, image: np.ndarray) -> np.ndarray:
    """Equation 1 on (D, H, W), channel by channel."""
    weights = weights_of(module)
    dim, heads = len(image), len(weights["temperature"])
    each = dim // heads
    query, key, value = np.split(depthwise(pointwise(image, weights, "qkv"), weights), 3)
    attended = np.zeros_like(image)
    for head in range(heads):
        channels = range(head * each, (head + 1) * each)
        for row in channels:
            logits = []
            for column in channels:
                length_q = math.sqrt((query[row] ** 2).sum())
                length_k = math.sqrt((key[column] ** 2).sum())
                cosine = (query[row] * key[column]).sum() / (length_q * length_k)
                logits.append(cosine * weights["temperature"][head, 0, 0])
            share = np.exp(logits) / np.exp(logits).sum()
            attended[row] = sum(share[index] * value[column] for index, column in enumerate(channels))
    return pointwise(attended, weights, "project")


@pytest.mark.parametrize("heads", [1, 3])
@pytest.mark.parametrize("with_bias", [False, True])
def test_attention_equals_its_numpy_restatement(heads: int, with_bias: bool) -> None:
    module = random(TransposedAttention(6, heads, bias=with_bias))
    image = noise(2, 6, 5, 7) - 0.5
    expected = np.stack([numpy_attention(module, one.numpy()) for one in image])
    assert np.allclose(module(image).detach().numpy(), expected, atol=1e-12)
    # Whatever the layout in memory.
    last = image.contiguous(memory_format=torch.channels_last)
    assert np.allclose(module(last).detach().numpy(), expected, atol=1e-12)


def numpy_feed_forward(module: GatedFeedForward, image: np.ndarray) -> np.ndarray:
    """Equation 2 on (D, H, W)."""
    weights = weights_of(module)
    gate, content = np.split(depthwise(pointwise(image, weights, "expand"), weights), 2)
    gelu = gate * 0.5 * (1 + np.vectorize(math.erf)(gate / math.sqrt(2)))
    return pointwise(gelu * content, weights, "project")


def numpy_norm(module: PixelNorm, image: np.ndarray) -> np.ndarray:
    weights = weights_of(module)
    deviation = np.sqrt(image.var(0) + 1e-5)
    if "bias" in weights:
        return (image - image.mean(0)) / deviation * weights["weight"][:, None, None] + weights["bias"][:, None, None]
    return image / deviation * weights["weight"][:, None, None]


@pytest.mark.parametrize("norm", ["bias_free", "with_bias"])
def test_a_block_equals_its_numpy_restatement(norm: str) -> None:
    block = random(TransformerBlock(6, 2, RestormerSpec(expansion=1.5, norm=norm)))
    image = noise(1, 6, 5, 7)
    expected = image[0].numpy()
    expected = expected + numpy_attention(block.attention, numpy_norm(block.norm1, expected))
    expected = expected + numpy_feed_forward(block.mlp, numpy_norm(block.norm2, expected))
    assert np.allclose(block(image)[0].detach().numpy(), expected, atol=1e-11)


def test_a_black_image_has_finite_gradients() -> None:
    network = awake(build(TINY))
    network(torch.zeros(1, 1, 8, 8)).square().mean().backward()
    assert all(torch.isfinite(p.grad).all() for p in network.parameters() if p.grad is not None)


@pytest.mark.parametrize("with_bias", [False, True])
def test_gradients_reach_every_parameter(with_bias: bool) -> None:
    norm = "with_bias" if with_bias else "bias_free"
    network = awake(build(RestormerSpec(dim=8, bias=with_bias, norm=norm)))
    network(noise(1, 3, 24, 16, double=False)).square().mean().backward()
    still = [name for name, value in network.named_parameters() if value.grad is None or not value.grad.any()]
    assert still == []


@pytest.mark.parametrize("residual", [False, True])
def test_it_learns_to_denoise_a_flat_image(residual: bool) -> None:
    spec = RestormerSpec(channels=1, dim=8, blocks=(1, 1), heads=(1, 2), refinement=0, residual=residual)
    network = build(spec)
    generator = torch.Generator().manual_seed(0)
    optimizer = torch.optim.Adam(network.parameters(), 3e-3)
    clean = torch.rand(8, 1, 1, 1, generator=generator).expand(8, 1, 16, 16)
    for _ in range(80):
        loss = (network(clean + 0.1 * torch.randn(clean.shape, generator=generator)) - clean).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    # the noise has a mean square of 0.01
    assert loss.item() < 0.004


def test_a_sample_alone_equals_the_same_in_a_batch() -> None:
    network = awake(build(RestormerSpec(dim=8))).eval()
    images = noise(3, 3, 24, 40, double=False)
    together = network(images)
    for index in range(3):
        assert torch.allclose(network(images[index : index + 1])[0], together[index], atol=1e-5)


def test_every_pixel_depends_on_the_whole_image_as_its_reach_says() -> None:
    network = awake(build(TINY)).double().eval()
    assert network.reach is None
    image = noise(1, 1, 96, 96).requires_grad_()
    (gradient,) = torch.autograd.grad(network(image)[0, 0, 0, 0], image)
    assert gradient[0, 0, -8:, -8:].abs().min() > 0


def test_it_survives_disk(tmp_path: Path) -> None:
    network = awake(build(TINY, seed=3))
    save(tmp_path, network, spec=TINY, inference=InferenceSpec(), card={})
    loaded = load(tmp_path)
    assert loaded.spec == TINY == spec_from_dict(spec_to_dict(TINY))
    image = noise(1, 1, 20, 30, double=False)
    assert torch.equal(loaded.network(image), network.eval()(image))


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"channels": 65}, "channels must be 1 to 64, got 65"),
        ({"dim": 0}, "dim must be 2 to 1024, got 0"),
        ({"dim": 7}, "dim must be even, got 7"),
        ({"refinement": -1}, "refinement must be 0 to 64, got -1"),
        ({"expansion": float("nan")}, "expansion must be 0.5 to 16, got nan"),
        ({"norm": "batch"}, r"norm must be one of \('bias_free', 'with_bias'\), got 'batch'"),
        ({"blocks": (4,)}, r"blocks must be 2 to 6 numbers from 1 to 64, got \(4,\)"),
        ({"blocks": (1, 0, 1, 1)}, "blocks must be 2 to 6 numbers from 1 to 64"),
        ({"heads": (1, 2)}, r"heads must be 4 numbers, one for each of blocks, got \(1, 2\)"),
        ({"heads": (1, 2, 3, 8)}, r"heads must divide the channels of their levels \[16, 32, 64, 128\]"),
    ],
)
def test_an_impossible_spec_names_field_limit_and_value(values: dict[str, object], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        RestormerSpec(**values)


def test_the_wrong_number_of_channels_is_refused() -> None:
    with pytest.raises(ValueError, match=r"image must have shape \(B, 3, H, W\)"):
        build(RestormerSpec())(torch.zeros(1, 4, 8, 8))
