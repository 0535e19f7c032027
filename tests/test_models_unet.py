import pytest
import torch

from models import UNet, UNetSpec, receptive_field
from models.build import build


def noisy(*shape: int) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("shape", [(1, 1), (1, 17), (7, 3), (8, 8), (33, 50)])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_any_image_size_keeps_its_size(shape: tuple[int, int], channels: int) -> None:
    network = build(UNetSpec(channels=channels, width=8, residual=False)).eval()
    image = noisy(2, channels, *shape)
    output = network(image)
    assert output.shape == image.shape
    assert torch.isfinite(output).all()


def test_the_default_has_a_quarter_of_a_million_parameters() -> None:
    assert sum(parameter.numel() for parameter in UNet(UNetSpec()).parameters()) == 253_851


def test_a_residual_network_starts_as_the_identity() -> None:
    image = noisy(1, 3, 19, 21)
    assert torch.equal(build(UNetSpec())(image), image)


@pytest.mark.parametrize("residual", [False, True])
def test_it_learns_to_denoise_a_flat_image(residual: bool) -> None:
    network = build(UNetSpec(channels=1, width=8, depth=1, residual=residual))
    generator = torch.Generator().manual_seed(0)
    optimizer = torch.optim.Adam(network.parameters(), 3e-3)
    clean = torch.rand(8, 1, 1, 1, generator=generator).expand(8, 1, 16, 16)
    for _ in range(200):
        loss = (network(clean + 0.1 * torch.randn(clean.shape, generator=generator)) - clean).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    # the noise has a mean square of 0.01
    assert loss.item() < 0.0025


@pytest.mark.parametrize("spec", [UNetSpec(width=4, residual=False), UNetSpec(width=4, depth=1, convolutions=1)])
def test_the_receptive_field_is_exact(spec: UNetSpec) -> None:
    network = UNet(spec).double().eval()
    for parameter in network.parameters():
        # positive weights, inputs and biases: no unit is off and nothing cancels
        torch.nn.init.uniform_(parameter, 0.01, 0.1, generator=torch.Generator().manual_seed(0))
    reach = receptive_field(spec)
    size = 4 * reach // network.multiple * network.multiple
    image = 1 + noisy(1, spec.channels, size, size).double()
    image.requires_grad_()
    farthest = 0
    for position in range(size // 2, size // 2 + network.multiple):
        (gradient,) = torch.autograd.grad(network(image)[0, 0, position, position], image)
        touched = gradient[0].abs().sum((0, 2)).nonzero().flatten()
        farthest = max(farthest, position - int(touched.min()), int(touched.max()) - position)
    assert farthest == reach


def test_the_wrong_number_of_channels_is_refused() -> None:
    with pytest.raises(ValueError, match=r"image must have shape \(B, 3, H, W\)"):
        build(UNetSpec())(torch.zeros(1, 4, 8, 8))
    with pytest.raises(ValueError, match="must be floating point"):
        build(UNetSpec())(torch.zeros(1, 3, 8, 8, dtype=torch.uint8))


@pytest.mark.parametrize("field", ["channels", "width", "depth", "convolutions"])
def test_an_impossible_spec_names_its_field(field: str) -> None:
    with pytest.raises(ValueError, match=f"{field} must be"):
        UNetSpec(**{field: -1})
