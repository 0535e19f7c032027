"""Proofs that inference is a pure function of image, weights and seed, and that masks do what they say.

Masks themselves as functions of (seed, position) are in test_models_masks.py, tiles of a network with a finite reach
in test_models_inference.py; here are the modes of the masked transformer.
"""

import dataclasses
import hashlib
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from models import (
    InferenceSpec,
    MaskedSwin,
    MaskedSwinSpec,
    MaskedTraining,
    Network,
    build,
    denoise,
    fill_hidden,
    hide,
    input_mask,
    load,
    save,
)
from models.masks import uniform_ratio
from models.swin import SwinBlock

ROOT = Path(__file__).resolve().parent.parent
SPEC = MaskedSwinSpec(dim=16, depths=(2, 2), heads=(2, 2), window=4, drop_path=0.0)
# Four blocks with windows of 4 and seven 3x3 convolutions: the sum of their reaches.
HALO = 4 * 4 + 7
# A statistic that is N(0, 1) exceeds 5 with probability 6e-7.
SIGMAS = 5.0

MODES = {
    "seeded": InferenceSpec(seed=3, halo=HALO),
    "ensemble": InferenceSpec(attention="ensemble", draws=3, seed=3, halo=HALO),
    "off": InferenceSpec(attention="off", seed=3, halo=HALO),
    "blind, seeded": InferenceSpec(mode="multi_mask", seed=3, halo=HALO),
    "blind, ensemble": InferenceSpec(mode="multi_mask", attention="ensemble", draws=2, pd_stride=2, seed=3, halo=HALO),
    "blind, off": InferenceSpec(mode="multi_mask", attention="off", mask_count=3, seed=3, halo=HALO),
    "mended": InferenceSpec(offset="level", seed=3, halo=HALO),
}


def image(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def swin(spec: MaskedSwinSpec = SPEC) -> MaskedSwin:
    """A transformer whose attention matters: at its initial weights it changes the output by 1e-5."""
    network = build(spec).eval()
    generator = torch.Generator().manual_seed(1)
    for name, parameter in network.named_parameters():
        if ".attention." in name:
            torch.nn.init.normal_(parameter, std=0.5, generator=generator)
    assert isinstance(network, MaskedSwin)
    return network


@pytest.fixture(scope="module")
def network() -> MaskedSwin:
    return swin()


def eight_bits(output: Tensor) -> Tensor:
    return (output.clamp(0, 1) * 255).round()


def assert_close(output: Tensor, expected: Tensor) -> None:
    """Float outputs within 1e-5, and 8-bit images equal but for values that lie as near to the middle of two steps.

    Products of other shapes round differently by 1e-7, and one value in 20,000 is as near as that to a middle.
    """
    torch.testing.assert_close(output, expected, rtol=0, atol=1e-5)
    differs = eight_bits(output) != eight_bits(expected)
    assert differs.float().mean() < 1e-3
    assert (eight_bits(output) - eight_bits(expected)).abs().max() <= 1


@pytest.mark.parametrize("mode", MODES)
def test_neither_tiles_nor_batches_nor_passes_change_the_output(
    network: MaskedSwin, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = MODES[mode]
    batch = image(2, 3, 90, 77)
    whole = denoise(network, batch, spec, tile=1000)
    # Random pixels have edges and levels everywhere; the offset of this network is far beyond what is left alone.
    assert (whole - batch).abs().mean() > 0.05
    assert_close(denoise(network, batch[:1], spec, tile=32), whole[:1])
    assert_close(denoise(network, batch[:1], spec, tile=40), whole[:1])
    assert torch.equal(denoise(network, batch[1:], spec, tile=1000), whole[1:])
    for pixels in (1, 1 << 30):
        monkeypatch.setattr("models.tiling._PASS_PIXELS", pixels)
        assert_close(denoise(network, batch[:1], spec, tile=1000), whole[:1])


@pytest.mark.parametrize("mode", ["seeded", "ensemble", "off", "blind, seeded"])
def test_the_number_of_threads_does_not_change_the_output(network: MaskedSwin, mode: str) -> None:
    picture = image(1, 3, 48, 44)
    before = torch.get_num_threads()
    outputs = []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            outputs.append(denoise(network, picture, MODES[mode]))
    finally:
        torch.set_num_threads(before)
    for output in outputs[1:]:
        assert_close(output, outputs[0])


_WORKER = """
import hashlib, json, sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from models import InferenceSpec, denoise, load
network = load(Path(sys.argv[1])).network
picture = torch.rand(1, 3, 60, 52, generator=torch.Generator().manual_seed(0))
specs = json.loads(sys.argv[3])
for spec in specs if sys.argv[2] == "forwards" else reversed(specs):
    output = denoise(network, picture, InferenceSpec(**spec))
    bytes = (output.clamp(0, 1) * 255).round().to(torch.uint8).numpy().tobytes()
    print(spec["attention"], spec["mode"], hashlib.sha256(bytes).hexdigest())
"""


def test_worker_processes_write_the_same_8_bit_files(network: MaskedSwin, tmp_path: Path) -> None:
    save(tmp_path / "weights", network, spec=SPEC, inference=InferenceSpec(), card={})
    specs = [MODES[mode] for mode in ("seeded", "ensemble", "off", "blind, seeded")]
    texts = json.dumps([dataclasses.asdict(spec) for spec in specs])
    # Side by side, the second one in the opposite order, so that nothing left over from one mode helps the next.
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", _WORKER, str(tmp_path / "weights"), order, texts],
            cwd=ROOT,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            text=True,
        )
        for order in ("forwards", "backwards")
    ]
    answers = [sorted(worker.communicate()[0].split("\n")) for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0]
    picture = image(1, 3, 60, 52)
    loaded = load(tmp_path / "weights").network
    here = [""]
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for spec in specs:
            pixels = eight_bits(denoise(loaded, picture, spec)).to(torch.uint8).numpy().tobytes()
            here.append(f"{spec.attention} {spec.mode} {hashlib.sha256(pixels).hexdigest()}")
    finally:
        torch.set_num_threads(before)
    assert answers == [sorted(here)] * 2


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("mode", MODES)
def test_a_gpu_draws_the_masks_of_the_cpu(network: MaskedSwin, mode: str) -> None:
    picture = image(1, 3, 64, 72)
    expected = denoise(network, picture, MODES[mode])
    output = denoise(swin().cuda(), picture.cuda(), MODES[mode]).cpu()
    # Sums in another order, tens of layers deep: float32 within 1e-4; another mask would be off by 1e-1.
    torch.testing.assert_close(output, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("mode", MODES)
def test_the_seed_decides_all_that_is_random(network: MaskedSwin, mode: str) -> None:
    spec = MODES[mode]
    picture = image(1, 3, 40, 36)
    first = denoise(network, picture, spec)
    torch.manual_seed(1)
    assert torch.equal(denoise(network, picture, spec), first)
    torch.manual_seed(2)
    torch.rand(100)
    assert torch.equal(denoise(network, picture, spec), first)
    other = denoise(network, picture, dataclasses.replace(spec, seed=4))
    if mode == "off":
        assert torch.equal(other, first)
    else:
        assert (other - first).abs().max() > 1e-2


class Recorder(Network):
    """Remembers the seeds it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.channels, self.multiple, self.reach, self.stochastic = 3, 1, 0, True
        self.anything = torch.nn.Parameter(torch.zeros(1))
        self.seeds: list[int] = []

    def forward(self, picture: Tensor, *, seeds: Tensor, **_: object) -> Tensor:
        self.seeds += seeds.tolist()
        return picture


@pytest.mark.parametrize(
    ("spec", "count"),
    [
        (InferenceSpec(draws=5), 5),
        (InferenceSpec(draws=3, pd_stride=2), 12),
        (InferenceSpec(mode="multi_mask", draws=3, mask_count=4, pd_stride=2), 48),
    ],
)
def test_every_draw_sub_image_and_complementary_mask_has_attention_masks_of_its_own(
    spec: InferenceSpec, count: int
) -> None:
    network = Recorder().eval()
    denoise(network, image(1, 3, 16, 16), spec)
    assert len(network.seeds) == len(set(network.seeds)) == count


def test_the_variance_of_an_ensemble_falls_as_one_over_its_draws(network: MaskedSwin) -> None:
    picture = image(1, 3, 40, 40)
    seeds, draws = 24, 6

    def spread(spec: InferenceSpec) -> Tensor:
        """Squared distances of the outputs of many seeds from their mean, (seeds,)."""
        outputs = torch.cat([denoise(network, picture, dataclasses.replace(spec, seed=seed)) for seed in range(seeds)])
        return (outputs - outputs.mean(0)).square().mean((1, 2, 3)).double()

    one, many = spread(InferenceSpec()), spread(InferenceSpec(attention="ensemble", draws=draws))
    # Each mean of n distances has a relative deviation of (deviation / mean) / sqrt(n); the two are independent.
    deviation = math.sqrt(sum((part.var() / part.mean() ** 2).item() / seeds for part in (one, many)))
    ratio = (one.mean() / many.mean()).item()
    assert SIGMAS * deviation < 0.35
    assert abs(ratio / draws - 1) < SIGMAS * deviation


@pytest.mark.parametrize(
    ("settings", "ranges"),
    [
        ({"attention_ratio": 0.75}, [(0.75, 0.75)] * 4),
        ({"attention_ratio": (0.65, 0.85)}, [(0.65, 0.85)] * 4),
        ({"attention_ratios": (0.0, 0.2, 0.6, 1.0)}, [(0.0, 0.0), (0.2, 0.2), (0.6, 0.6), (1.0, 1.0)]),
    ],
)
def test_attention_masks_of_every_block_and_sample_hit_their_ratio(
    settings: dict, ranges: list[tuple[float, float]]
) -> None:
    network = swin(dataclasses.replace(SPEC, **settings))
    samples, side = 8, 96
    hidden: list[Tensor | None] = []
    for block in network.modules():
        if isinstance(block, SwinBlock):
            block.register_forward_pre_hook(lambda _, __, kwargs: hidden.append(kwargs["hidden"]), with_kwargs=True)
    with torch.inference_mode():
        network(image(samples, 3, side, side), seeds=torch.arange(samples))
    tokens = side * side
    shares = []
    for mask, (low, high) in zip(hidden, ranges, strict=True):
        if high == 0:
            assert mask is None
            continue
        assert mask is not None
        share = mask.float().mean((1, 2, 3))
        margin = SIGMAS * math.sqrt(0.25 / tokens) if 0 < high < 1 else 0.0
        assert share.min() >= low - margin
        assert share.max() <= high + margin
        shares.append(share)
    low, high = ranges[0]
    if low < high:
        drawn = torch.cat(shares)
        # Uniform in the range: its mean, and no two samples or blocks alike.
        tolerance = SIGMAS * (high - low) / math.sqrt(12 * len(drawn))
        assert abs(drawn.mean().item() - (low + high) / 2) < tolerance
        assert drawn.std() > 0.5 * (high - low) / math.sqrt(12)


@pytest.mark.parametrize("limits", [(0.75, 0.75), (0.8, 0.9)])
def test_input_masks_of_training_hit_the_ratio_drawn_for_each_sample(
    limits: tuple[float, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    samples, side = 32, 64
    seeds = torch.arange(samples)
    seen: list[Tensor] = []

    class Watch(torch.nn.Module):
        def forward(self, shown: Tensor, **_: object) -> Tensor:
            seen.append(shown)
            return shown

    noisy = image(samples, 3, side, side)
    MaskedTraining(input_ratio=limits).loss(Watch(), noisy, noisy, seeds)
    masked = (seen[0] == torch.tensor(-0.1)).float()
    assert torch.equal(masked[:, 0], masked[:, 2])
    share, ratio = masked[:, 0].mean((1, 2)), uniform_ratio(seeds, *limits)
    assert ratio.min() >= limits[0]
    assert ratio.max() <= limits[1] + 1e-7
    assert (share - ratio).abs().max() < SIGMAS * math.sqrt(0.25 / side**2)


SIZES = [(16, 16), (18, 23)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("site", ["pixel", "token"])
@pytest.mark.parametrize("token", ["zero", "learnable"])
def test_an_input_masked_pixel_cannot_leak(site: str, token: str, size: tuple[int, int]) -> None:
    network = swin(dataclasses.replace(SPEC, mask_token=token))
    seeds = torch.tensor([5])
    mask = input_mask(seeds, 0.8, *size)
    # As little as can be: another value of the hidden pixels alone, but for the padded rim, which mirrors them.
    noisy = image(1, 3, *size)
    other = torch.where(mask, image(1, 3, *size, seed=9), noisy)

    def run(shown: Tensor) -> Tensor:
        with torch.inference_mode():
            if site == "token":
                return network(shown, seeds=seeds, input_mask=mask)
            return network(hide(shown, mask, -0.1), seeds=seeds)

    assert torch.equal(run(noisy), run(other))
    visible = torch.where(mask, noisy, other + 0.1)
    assert not torch.equal(run(noisy), run(visible))


@pytest.mark.parametrize("leak", [{"embed_kernel": 3}, {"skips": True}])
def test_what_swinir_has_and_masked_training_left_out_would_leak_at_the_token_site(leak: dict) -> None:
    network = swin(dataclasses.replace(SPEC, mask_token="zero", **leak))
    noisy = image(1, 3, 16, 16)
    mask = torch.zeros(1, 1, 16, 16, dtype=torch.bool)
    mask[..., 7, 9] = True
    other = noisy.clone()
    other[..., 7, 9] += 0.3
    with torch.inference_mode():
        one, two = (network(shown, seeds=torch.tensor([5]), input_mask=mask) for shown in (noisy, other))
    assert not torch.equal(one, two)


@pytest.mark.parametrize("mode", ["blind, seeded", "blind, ensemble", "blind, off"])
def test_a_blind_prediction_never_sees_its_own_pixel_whatever_the_attention_masks(mode: str) -> None:
    network = swin()
    spec = MODES[mode]
    noisy = image(1, 3, 24, 28)
    other = noisy.clone()
    other[..., 10, 12] += 0.5
    one, two = denoise(network, noisy, spec), denoise(network, other, spec)
    assert torch.equal(one[..., 10, 12], two[..., 10, 12])
    assert not torch.equal(one, two)


def test_a_hidden_pixel_is_filled_from_visible_ones_only() -> None:
    noisy = image(2, 3, 20, 20)
    mask = input_mask(torch.arange(2), 0.6, 20, 20)
    other = torch.where(mask, noisy + 1, noisy)
    for fill in ("zero", "mean"):
        assert torch.equal(fill_hidden(noisy, mask, fill), fill_hidden(other, mask, fill))


def test_off_is_the_network_without_seeds_and_ensemble_the_mean_of_its_draws(network: Network) -> None:
    picture = image(1, 3, 24, 28)
    with torch.inference_mode():
        torch.testing.assert_close(denoise(network, picture, MODES["off"]), network(picture), rtol=0, atol=1e-6)
    draws = [denoise(network, picture, InferenceSpec(draws=count, seed=3)) for count in (1, 2, 3)]
    ensemble = denoise(network, picture, MODES["ensemble"])
    assert torch.equal(draws[2], ensemble)
    singles = torch.stack([draws[0], 2 * draws[1] - draws[0], 3 * draws[2] - 2 * draws[1]])
    assert (singles[0] - singles[1]).abs().max() > 1e-2
    assert (singles[1] - singles[2]).abs().max() > 1e-2
