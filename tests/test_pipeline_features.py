"""What hooks see is what the layers compute: against an independent network, and against the output itself."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from models import (
    MaskedSwinSpec,
    NafnetSpec,
    Network,
    NetworkSpec,
    RestormerSpec,
    UNetSpec,
    build,
    official_state_dict,
)
from pipeline.evaluation.features import tapped, taps_of

ORACLES = Path(__file__).parent / "oracles"
SWIN = MaskedSwinSpec(dim=12, depths=(2, 2), heads=(2, 2), window=4)
SPECS: dict[str, NetworkSpec] = {
    "masked_swin": SWIN,
    "swin, one group": replace(SWIN, depths=(2,), heads=(2,), group_conv="1conv"),
    "unet": UNetSpec(width=4, depth=2, residual=False),
    "unet, flat": UNetSpec(width=4, depth=0, residual=False),
    "nafnet": NafnetSpec(width=4, residual=False),
    "restormer": RestormerSpec(dim=8, blocks=(1, 1), heads=(1, 2), residual=False),
    "restormer, not refined": RestormerSpec(dim=8, blocks=(1, 1), heads=(1, 2), refinement=0, residual=False),
}


def seen_in(network: Network, image: Tensor, **options: object) -> tuple[dict[str, Tensor], Tensor]:
    seen: dict[str, Tensor] = {}

    def see(name: str, features: Tensor) -> None:
        assert name not in seen, "each layer once"
        seen[name] = features.clone()

    with torch.no_grad(), tapped(network, see) as names:
        output = network(image, **options)
    assert list(seen) == names, "in the order in which they are computed"
    return seen, output


@pytest.mark.parametrize(("oracle", "pays"), [("nomask", 2.0), ("attnmask", 2.0), ("attnmask", 0.0)])
def test_layers_equal_those_of_the_independent_network(
    oracle: str, pays: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both ways of computing masked attention, all windows or visible tokens only (see models/swin.py)."""
    monkeypatch.setattr("models.swin._VISIBLE_PAYS", pays)
    with np.load(ORACLES / f"masked_swin_{oracle}.npz") as file:
        arrays = {key: torch.from_numpy(file[key]) for key in file.files}
    network = build(SWIN)
    official = {key.removeprefix("sd/"): value for key, value in arrays.items() if key.startswith("sd/")}
    network.load_state_dict(official_state_dict(official), strict=True)
    masks = [arrays[f"am_a_{block}"] == 0 for block in range(4)] if oracle == "attnmask" else None
    seen, _ = seen_in(network.eval(), arrays["x_a"], attention_masks=masks)
    theirs = {
        f"g{group + 1} block {block + 1}": f"rstb{group}_block{block}" for group in range(2) for block in range(2)
    }
    theirs |= {"g1": "rstb0", "g2": "rstb1", "body": "conv_after_body"}
    assert seen.keys() == theirs.keys()
    for name, key in theirs.items():
        expected = arrays[f"feat_a/{key}"]
        if expected.shape != seen[name].shape:  # tokens (B, H * W, D) or (B, H, W, D)
            expected = expected.reshape(2, 16, 16, 12).permute(0, 3, 1, 2)
        torch.testing.assert_close(
            seen[name], expected, rtol=0, atol=1e-5, msg=lambda text, name=name: f"{name}: {text}"
        )


@pytest.mark.parametrize("name", SPECS)
def test_the_last_layer_is_what_the_output_convolution_gets(name: str) -> None:
    network = build(SPECS[name], seed=1).eval()
    head = next(module for module in (getattr(network, key, None) for key in ("head", "conv_last")) if module)
    assert isinstance(head, nn.Conv2d)
    image = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    seen, output = seen_in(network, image)
    offset = network.mean if name.startswith(("masked", "swin")) else 0.5
    with torch.no_grad():
        again = head(list(seen.values())[-1]) + offset
    torch.testing.assert_close(output, again, rtol=0, atol=1e-6)
    for layer in seen.values():
        assert layer.dim() == 4
        assert layer.shape[0] == 2
        assert torch.isfinite(layer).all()


@pytest.mark.parametrize("name", SPECS)
def test_looking_changes_nothing_and_leaves_nothing_behind(name: str) -> None:
    network = build(SPECS[name], seed=1).eval()
    image = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        plain = network(image, seeds=torch.tensor([3]))
    _, watched = seen_in(network, image, seeds=torch.tensor([3]))
    assert torch.equal(plain, watched)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())


def test_hooks_go_when_the_network_fails() -> None:
    network = build(SWIN).eval()
    with pytest.raises(ValueError, match="shape"), tapped(network, lambda _name, _features: None):
        network(torch.zeros(1, 4, 8, 8))
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())


def test_an_unknown_network_is_refused() -> None:
    with pytest.raises(ValueError, match="not of"):
        taps_of(Network())
