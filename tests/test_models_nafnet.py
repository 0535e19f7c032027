"""NAFNet: its parts against plain numpy, its size against the paper, its reach against perturbations."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from models import InferenceSpec, NAFNet, NafnetSpec, build, denoise, load, save
from models.build import build_empty, spec_from_dict
from models.nafnet import NafBlock, local_means, nafnet_reach, simple_gate
from models.spec_io import spec_to_dict

PAPER = NafnetSpec(width=32, encoder=(2, 2, 4, 8), middle=12, decoder=(2, 2, 2, 2), window=0)
TINY = NafnetSpec(channels=1, width=4, encoder=(1,), decoder=(1,), window=16)


def noise(*shape: int, seed: int = 0, double: bool = True) -> Tensor:
    dtype = torch.float64 if double else torch.float32
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def awake(network: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    """The same network with random weights in place of the zeros it starts with."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            if not parameter.any():
                parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
    return network


@pytest.mark.parametrize("shape", [(1, 1), (1, 17), (7, 3), (8, 8), (33, 50), (160, 20)])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_any_image_size_keeps_its_size(shape: tuple[int, int], channels: int) -> None:
    network = awake(build(NafnetSpec(channels=channels, width=4, window=64, residual=False))).eval()
    image = noise(2, channels, *shape, double=False)
    output = network(image)
    assert output.shape == image.shape
    assert torch.isfinite(output).all()


def test_the_papers_configuration_has_the_published_number_of_parameters() -> None:
    assert sum(parameter.numel() for parameter in build_empty(PAPER).parameters()) == 29_159_715  # 29.16 M
    assert sum(parameter.numel() for parameter in build_empty(NafnetSpec()).parameters()) == 640_011


def test_a_residual_network_starts_as_the_identity() -> None:
    image = noise(1, 3, 19, 21, double=False)
    assert torch.equal(build(NafnetSpec())(image), image)
    assert not torch.equal(build(NafnetSpec(residual=False))(image), image)


def test_simple_gate_multiplies_the_first_half_of_the_channels_with_the_second() -> None:
    features = torch.arange(1.0, 9.0).view(1, 4, 1, 2)
    assert simple_gate(features).tolist() == [[[[1.0 * 5, 2.0 * 6]], [[3.0 * 7, 4.0 * 8]]]]


def test_channel_attention_of_a_small_map_is_the_papers() -> None:
    block = NafBlock(3, cell=2).double()
    features = noise(2, 3, 16, 10).numpy()
    weight, bias = block.attention.weight.detach().numpy()[:, :, 0, 0], block.attention.bias.detach().numpy()
    expected = np.empty_like(features)
    for image, channel in itertools.product(range(2), range(3)):
        means = [features[image, other].mean() for other in range(3)]
        scale = sum(weight[channel, other] * means[other] for other in range(3)) + bias[channel]
        expected[image, channel] = features[image, channel] * scale
    assert np.allclose(block.attend(torch.from_numpy(features)).detach().numpy(), expected, atol=1e-14)


def numpy_local_means(features: np.ndarray, cell: int) -> np.ndarray:
    """What the docstring says, window by window."""
    height, width = features.shape
    rows, columns = height // cell, width // cell
    means = np.empty((rows + 1, columns + 1))
    for row, column in itertools.product(range(rows + 1), range(columns + 1)):
        top = min(max(row - 4, 0), max(rows - 8, 0)) * cell
        left = min(max(column - 4, 0), max(columns - 8, 0)) * cell
        means[row, column] = features[top : top + 8 * cell, left : left + 8 * cell].mean()
    return means


@pytest.mark.parametrize("shape", [(20, 22), (18, 16), (12, 24), (40, 2)])
def test_windows_of_a_large_map_are_centred_on_corners_and_moved_inside(shape: tuple[int, int]) -> None:
    features = noise(1, 1, *shape)
    expected = numpy_local_means(features[0, 0].numpy(), 2)
    means = local_means(features, 2)[0, 0].numpy()
    assert np.allclose(means, expected, atol=1e-14)


def test_between_the_corners_of_cells_attention_is_interpolated() -> None:
    block = NafBlock(1, cell=2).double()
    torch.nn.init.constant_(block.attention.weight, 1.0)
    torch.nn.init.zeros_(block.attention.bias)
    features = noise(1, 1, 20, 24)
    corners = numpy_local_means(features[0, 0].numpy(), 2)
    scale = np.empty((20, 24))
    for row, column in itertools.product(range(20), range(24)):
        (top, down), (left, right) = divmod(row, 2), divmod(column, 2)
        square = corners[top : top + 2, left : left + 2]
        scale[row, column] = np.array([1 - down / 2, down / 2]) @ square @ np.array([1 - right / 2, right / 2])
    expected = features[0, 0].numpy() * scale
    assert np.allclose(block.attend(features)[0, 0].detach().numpy(), expected, atol=1e-14)


def numpy_block(block: NafBlock, image: np.ndarray) -> np.ndarray:
    """One block on (D, H, W), the paper's figure 3d line by line, attention over the whole map."""
    weights = {name: value.detach().numpy() for name, value in block.state_dict().items()}

    def norm(x: np.ndarray, name: str) -> np.ndarray:
        centred = x - x.mean(0)
        unit = centred / np.sqrt((centred**2).mean(0) + 1e-6)
        return unit * weights[f"{name}.weight"][:, None, None] + weights[f"{name}.bias"][:, None, None]

    def pointwise(x: np.ndarray, name: str) -> np.ndarray:
        mixed = np.einsum("oi,ihw->ohw", weights[f"{name}.weight"][:, :, 0, 0], x)
        return mixed + weights[f"{name}.bias"][:, None, None]

    def depthwise(x: np.ndarray) -> np.ndarray:
        padded = np.pad(x, ((0, 0), (1, 1), (1, 1)))
        result = np.zeros_like(x) + weights["depthwise.bias"][:, None, None]
        for row, column in itertools.product(range(3), range(3)):
            tap = weights["depthwise.weight"][:, 0, row, column][:, None, None]
            result += tap * padded[:, row : row + x.shape[1], column : column + x.shape[2]]
        return result

    def gate(x: np.ndarray) -> np.ndarray:
        return x[: len(x) // 2] * x[len(x) // 2 :]

    inner = gate(depthwise(pointwise(norm(image, "norm1"), "expand1")))
    inner = inner * pointwise(inner.mean((1, 2), keepdims=True), "attention")
    image = image + weights["beta"][0] * pointwise(inner, "project1")
    inner = pointwise(gate(pointwise(norm(image, "norm2"), "expand2")), "project2")
    return image + weights["gamma"][0] * inner


def test_a_block_equals_its_numpy_restatement() -> None:
    block = NafBlock(6, cell=0).double()
    generator = torch.Generator().manual_seed(1)
    for parameter in block.parameters():
        torch.nn.init.normal_(parameter, generator=generator)
    image = noise(2, 6, 7, 5)
    expected = np.stack([numpy_block(block, one.numpy()) for one in image])
    assert np.allclose(block(image).detach().numpy(), expected, atol=1e-11)


def test_gradients_reach_every_parameter() -> None:
    network = awake(build(NafnetSpec(width=4, window=64)))
    network(noise(1, 3, 80, 16, double=False)).square().mean().backward()
    still = [name for name, value in network.named_parameters() if value.grad is None or not value.grad.any()]
    assert still == []


@pytest.mark.parametrize("residual", [False, True])
def test_it_learns_to_denoise_a_flat_image(residual: bool) -> None:
    network = build(NafnetSpec(channels=1, width=8, encoder=(1,), decoder=(1,), window=0, residual=residual))
    generator = torch.Generator().manual_seed(0)
    optimizer = torch.optim.Adam(network.parameters(), 3e-3)
    clean = torch.rand(8, 1, 1, 1, generator=generator).expand(8, 1, 16, 16)
    for _ in range(80):
        loss = (network(clean + 0.1 * torch.randn(clean.shape, generator=generator)) - clean).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    # the noise has a mean square of 0.01
    assert loss.item() < 0.0025


def test_a_sample_alone_equals_the_same_in_a_batch() -> None:
    network = awake(build(NafnetSpec(width=8, window=64))).eval()
    images = noise(3, 3, 72, 40, double=False)
    together = network(images)
    for index in range(3):
        assert torch.allclose(network(images[index : index + 1])[0], together[index], atol=1e-5)


SHALLOW = [
    TINY,
    NafnetSpec(channels=1, width=4, encoder=(2, 1), decoder=(1, 1), window=32),
    # The window is smaller than 8x8 of the coarsest pixels, and larger.
    NafnetSpec(channels=1, width=4, encoder=(1, 1), decoder=(1, 1), window=8),
    NafnetSpec(channels=1, width=4, encoder=(1,), decoder=(1,), window=64),
]


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("spec", SHALLOW)
def test_the_reach_is_exact(spec: NafnetSpec, axis: int) -> None:
    network = awake(NAFNet(spec)).double().eval()
    reach = nafnet_reach(spec)
    assert reach is not None
    length = -(-3 * reach // network.multiple) * network.multiple
    strip = noise(1, 1, length, network.multiple).transpose(2, 2 + axis).requires_grad_()
    output = network(strip)[0, 0].select(1 - axis, 0)
    farthest = 0
    # The borders, where windows are moved inside, and all phases of the middle.
    middle = length // 2 // network.multiple * network.multiple
    border = range(8 * network.multiple)
    for position in [*border, *range(middle, middle + network.multiple), *(length - 1 - place for place in border)]:
        (gradient,) = torch.autograd.grad(output[position], strip, retain_graph=True)
        touched = gradient[0, 0].abs().sum(1 - axis).nonzero().flatten()
        farthest = max(farthest, position - int(touched.min()), int(touched.max()) - position)
    assert farthest == reach


def test_where_the_reach_is_finite_tiles_equal_the_whole_image() -> None:
    network = awake(build(TINY)).eval()
    assert network.reach == nafnet_reach(TINY)
    image = noise(1, 1, 250, 190, double=False)
    whole = denoise(network, image, InferenceSpec(tile=1 << 12))
    tiled = denoise(network, image, InferenceSpec(tile=64))
    assert (tiled - whole).abs().max() < 1e-5


def test_a_reach_that_makes_no_useful_halo_is_none() -> None:
    assert nafnet_reach(NafnetSpec()) == 305
    assert build_empty(NafnetSpec()).reach is None
    assert nafnet_reach(PAPER) is None
    assert build_empty(PAPER).reach is None


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
        ({"channels": 0}, "channels must be 1 to 64, got 0"),
        ({"width": 0}, "width must be 1 to 1024, got 0"),
        ({"middle": 0}, "middle must be 1 to 64, got 0"),
        ({"encoder": ()}, r"encoder must be 1 to 6 numbers from 1 to 64, got \(\)"),
        ({"decoder": (1, 0, 1)}, r"decoder must be 1 to 6 numbers from 1 to 64, got \(1, 0, 1\)"),
        ({"encoder": (1, 1)}, r"decoder must be 2 numbers, one for each of encoder, got \(1, 1, 1\)"),
        ({"window": 96}, "window must be 0 or one of 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, got 96"),
        ({"window": -64}, "window must be 0 or one of 8, .*, got -64"),
        ({"window": 4}, "window must be 0 or one of 8, .*, got 4"),
        ({"window": 8192}, "window must be 0 or one of 8, .*, got 8192"),
    ],
)
def test_an_impossible_spec_names_field_limit_and_value(values: dict[str, object], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        NafnetSpec(**values)


def test_the_wrong_number_of_channels_is_refused() -> None:
    with pytest.raises(ValueError, match=r"image must have shape \(B, 3, H, W\)"):
        build(NafnetSpec())(torch.zeros(1, 4, 8, 8))
