"""Denoising band by band: equal to the whole image at any size, in as little memory as there is."""

import os
import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from models import (
    InferenceSpec,
    MaskedSwinSpec,
    NafnetSpec,
    Network,
    RestormerSpec,
    UNetSpec,
    choose_tile,
    denoise,
    denoise_bands,
    pass_bytes,
    tile_halo,
)
from models.bands import InParts
from models.build import build

FINITE = {
    "unet": UNetSpec(width=4, depth=2, convolutions=1),
    "flat unet": UNetSpec(width=4, depth=0),
    "nafnet": NafnetSpec(width=4, encoder=(1,), decoder=(1,), window=8),
}
EDGES = (1, 2, 3, 7, 8, 31, 37, 64, 97, 101)


def network(kind: str) -> Network:
    """Every weight counts: at its initial ones a residual network is the identity."""
    made = build(FINITE[kind]).eval()
    generator = torch.Generator().manual_seed(2)
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.3, generator=generator)
    return made


def noisy(*shape: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(sum(shape)))


@pytest.mark.parametrize("kind", FINITE)
@settings(max_examples=12, deadline=None, derandomize=True)
@given(
    height=st.sampled_from(EDGES),
    width=st.sampled_from(EDGES),
    tile=st.sampled_from((8, 13, (16, 40), (50, 8))),
    pd_stride=st.sampled_from((1, 2)),
)
def test_a_tiled_image_of_any_size_equals_the_whole_image(kind, height, width, tile, pd_stride) -> None:
    made, image = network(kind), noisy(1, 3, height, width)
    assert made.reach is not None
    spec = InferenceSpec(pd_stride=pd_stride)
    whole = denoise(made, image, spec, tile=1000)
    tiled = denoise(made, image, spec, tile=tile)
    torch.testing.assert_close(tiled, whole, rtol=0, atol=1e-5 * float(whole.abs().max().clamp_min(1)))


@pytest.mark.parametrize("shape", [(1, 1), (1, 97), (97, 1), (37, 101)])
def test_bands_are_the_rows_of_the_image_in_order(shape: tuple[int, int]) -> None:
    made, image = network("unet"), noisy(2, 3, *shape)
    asked: list[int] = []

    def read(top: int, bottom: int, left: int, right: int) -> Tensor:
        asked.append(top)
        return image[:, :, top:bottom, left:right]

    bands = list(denoise_bands(made, read, *shape, InferenceSpec(offset="level"), tile=16))
    assert torch.equal(torch.cat(bands, 2), denoise(made, image, InferenceSpec(), tile=16))
    assert asked == sorted(asked)
    assert len(bands) == -(-shape[0] // 16)


class Short:
    """Memory for so many pixels, as torch would say it."""

    def __init__(self, made: Network, pixels: int, error: Exception) -> None:
        self.failures = self.largest = 0
        forward = made.forward

        def limited(image: Tensor, **named: object) -> Tensor:
            if image[0, 0].numel() > pixels:
                self.failures += 1
                raise error
            self.largest = max(self.largest, image[0, 0].numel())
            return forward(image, **named)

        made.forward = limited  # type: ignore[method-assign]


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        RuntimeError("[enforce fail at alloc_cpu.cpp:128] DefaultCPUAllocator: can't allocate memory: you tried"),
        RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 1 bytes."),
        MemoryError(),
    ],
)
def test_tiles_are_halved_where_memory_is_short(error: Exception) -> None:
    made, image = network("unet"), noisy(1, 3, 203, 181)
    whole = denoise(made, image, InferenceSpec())
    short = Short(made, 110 * 110, error)
    halved = []
    bands = denoise_bands(
        made,
        lambda top, bottom, left, right: image[:, :, top:bottom, left:right],
        203,
        181,
        InferenceSpec(),
        on_halved=lambda: halved.append(1),
    )
    torch.testing.assert_close(torch.cat(list(bands), 2), whole, rtol=0, atol=1e-4)
    assert short.failures == len(halved) > 0
    assert 0 < short.largest <= 110 * 110


def test_other_errors_and_memory_for_nothing_are_told() -> None:
    made, image = network("unet"), noisy(1, 3, 64, 64)
    Short(made, 0, RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    with pytest.raises(RuntimeError, match="mat1"):
        denoise(made, image, InferenceSpec())
    made = network("unet")
    short = Short(made, 0, MemoryError())
    with pytest.raises(MemoryError, match=r"not enough memory for a tile of \d+x\d+ pixels"):
        denoise(made, image, InferenceSpec())
    assert short.failures < 10


def test_a_part_is_cut_along_its_longer_side() -> None:
    seen: list[tuple[int, ...]] = []

    def compute(part: Tensor, origin: tuple[int, int]) -> Tensor:
        seen.append((*part.shape[-2:], *origin))
        if part[0, 0].numel() > 3000:
            raise MemoryError
        return part

    part = noisy(1, 1, 40, 120)
    torch.testing.assert_close(InParts(compute, halo=4, multiple=4)(part, (8, 16)), part, rtol=0, atol=1e-6)
    assert seen == [(40, 120, 8, 16), (40, 72, 8, 16), (40, 72, 8, 64)]


ADDRESS_SPACE = """
import resource, torch
from models import InferenceSpec, UNetSpec, denoise_bands, denoise
from models.build import build
torch.set_num_threads(1)
network = build(UNetSpec(width=32, depth=1, convolutions=1)).eval()
image = torch.rand(1, 3, 700, 700)
denoise(network, image[..., :64, :64], InferenceSpec())
taken = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (taken + 150 * 2**20, resource.RLIM_INFINITY))
halved = []
read = lambda top, bottom, left, right: image[:, :, top:bottom, left:right]
bands = list(denoise_bands(network, read, 700, 700, InferenceSpec(), tile=700, on_halved=lambda: halved.append(1)))
result = torch.cat(bands, 2)
print(len(halved), float((result - denoise(network, image, InferenceSpec(), tile=128)).abs().max()))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits of address space")
def test_torchs_own_word_for_too_little_memory_is_understood() -> None:
    # Else glibc keeps the addresses of what was freed, for itself alone: one run of ten found none left for code.
    own = os.environ | {"MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": "1048576"}
    run = subprocess.run([sys.executable, "-c", ADDRESS_SPACE], capture_output=True, text=True, check=False, env=own)
    assert run.returncode == 0, run.stderr[-2000:]
    halved, error = run.stdout.split()
    assert int(halved) >= 1
    assert float(error) < 1e-5


class Live(TorchDispatchMode):
    """Bytes of tensors that are alive together."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._seen: set[int] = set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        import weakref

        from torch.utils._pytree import tree_iter

        result = function(*args, **(kwargs or {}))
        for tensor in tree_iter(result):
            if isinstance(tensor, Tensor) and tensor.untyped_storage()._cdata not in self._seen:
                storage = tensor.untyped_storage()
                key, size = storage._cdata, storage.nbytes()
                self._seen.add(key)
                self.now += size
                self.peak = max(self.peak, self.now)
                weakref.finalize(storage, self._freed, key, size)
        return result

    def _freed(self, key: int, size: int) -> None:
        self._seen.discard(key)
        self.now -= size


@pytest.mark.parametrize(
    "spec",
    [
        UNetSpec(),
        UNetSpec(width=48),
        UNetSpec(width=16, depth=1),
        NafnetSpec(),
        NafnetSpec(width=8),
        RestormerSpec(),
        RestormerSpec(dim=8, heads=(1, 1, 1, 1)),
        MaskedSwinSpec(dim=48, depths=(2, 2), heads=(4, 4)),
        MaskedSwinSpec(dim=24, depths=(2,), heads=(2,)),
    ],
    ids=lambda spec: f"{spec.kind}-{getattr(spec, 'width', None) or spec.dim}",
)
def test_a_pass_takes_no_more_than_is_said_and_no_less_than_a_third(spec) -> None:
    made = build(spec).eval()
    taken = []
    with torch.inference_mode():
        for side in (96, 160):
            image = noisy(1, 3, side, side)
            with Live() as live:
                made(image, seeds=torch.tensor([0]) if made.stochastic else None)
            taken.append(live.peak)
    # What does not grow with the tile, such as tables, is not counted for each pixel.
    for_each = (taken[1] - taken[0]) / (160**2 - 96**2)
    assert pass_bytes(spec) / 3 < for_each < pass_bytes(spec)


@given(
    height=st.integers(1, 20_000),
    width=st.integers(1, 20_000),
    budget=st.integers(10**6, 10**9),
    reach=st.integers(0, 60),
)
@settings(max_examples=60, deadline=None, derandomize=True)
def test_chosen_tiles_fit_and_are_worth_it(height: int, width: int, budget: int, reach: int) -> None:
    down, across = choose_tile(
        height, width, halo=reach + 8, multiple=8, budget=budget, pixel_bytes=900, row_bytes=20 * width
    )
    read = min(height, down + 2 * reach + 16), min(width, across + 2 * reach + 16)
    smallest = max(8, reach + 8)
    assert read[0] * read[1] * 900 + read[0] * 20 * width <= budget or (down, across) == (smallest, smallest)
    if (height + 8) * (width + 8) * 920 <= budget:
        assert down >= height
        assert across >= width


def test_tiles_of_a_large_photo_waste_little() -> None:
    made = build(UNetSpec(width=48)).eval()
    halo = tile_halo(made, InferenceSpec())
    down, across = choose_tile(
        4000, 6000, halo=halo, multiple=8, budget=768 << 20, pixel_bytes=pass_bytes(made.spec), row_bytes=36000
    )
    computed = (4000 + 104 * (-(-4000 // down) - 1)) * (6000 + 104 * (-(-6000 // across) - 1))
    assert computed < 1.22 * 4000 * 6000
