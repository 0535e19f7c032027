"""The masked Swin on a GPU: equality with the CPU, time of a training step and of inference, share of the roofline.

    python tests/benchmarks/bench_masked_swin_gpu.py [--device cuda] [--tiny] [--profile]

Needs torch and numpy only. `--tiny --device cpu` tries the script itself. Paper configuration, batch 64 of 64x64;
the reference is `reference_swin.py`. Times are medians of device events around single calls, variants in turn.
"""

import argparse
import dataclasses
import statistics
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[2]))

from models import InferenceSpec, MaskedSwinSpec, MaskedTraining, build, denoise, input_mask, l1
from models.masks import attention_mask
from tests.benchmarks.reference_swin import host_masks, reference_forward

FLOP_PER_PIXEL = 1.92e6  # forward, all tokens computed; a training step is three times that
TERAFLOPS = 790.0  # large bfloat16 products, measured on an H200

TINY = MaskedSwinSpec(dim=12, depths=(2,), heads=(2,), window=8)


def seconds(run: Callable[[], object], device: str) -> float:
    """Time of one call, by device events where there are any."""
    if device == "cpu":
        start = time.perf_counter()
        run()
        return time.perf_counter() - start
    begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    begin.record()
    run()
    end.record()
    torch.cuda.synchronize()
    return begin.elapsed_time(end) / 1000


def equality(spec: MaskedSwinSpec, device: str) -> None:
    """Largest difference from float32 on the CPU, of masks and outputs."""
    seeds = torch.tensor([5, 2**40 + 3])
    masks = attention_mask(seeds, 0.75, 3, 96, 104, origin=(64, 8))
    same = torch.equal(masks, attention_mask(seeds.to(device), 0.75, 3, 96, 104, origin=(64, 8)).cpu())
    print(f"masks equal: {same}")
    network = build(spec).eval()
    image = torch.rand(2, 3, 72, 88, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected = network(image, seeds=seeds)
        network.to(device)
        for name, tf32, short in (("float32", False, False), ("tf32", True, False), ("bfloat16", False, True)):
            torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = tf32
            with torch.autocast(device, torch.bfloat16) if short else nullcontext():
                found = network(image.to(device), seeds=seeds.to(device)).float().cpu()
            print(f"output, {name:8}: {float((found - expected).abs().max()):.1e}")


def steps(spec: MaskedSwinSpec, device: str, batch: int, repeats: int) -> None:
    """Time and memory of a training step, reference against ours."""
    network = build(spec).to(device)
    method = MaskedTraining()
    noisy, clean = (torch.rand(batch, 3, 64, 64, device=device) for _ in range(2))
    seeds = torch.arange(batch, device=device)
    weights = dict(network.named_parameters())
    on_device = {name: value for name, value in weights.items() if value.device.type == torch.device(device).type}

    def reference() -> Tensor:
        shown = noisy.masked_fill(input_mask(seeds, 0.85, 64, 64), -0.1)
        host = host_masks(0.75, 0)
        return l1(reference_forward(on_device, spec, shown, lambda *size: host(*size).to(device)), clean)

    def ours(call: torch.nn.Module) -> Callable[[], Tensor]:
        return lambda: method.loss(call, noisy, clean, seeds)

    variants: dict[str, tuple[Callable[[], Tensor], bool]] = {
        "reference, float32": (reference, False),
        "reference, bfloat16": (reference, True),
        "ours, float32": (ours(network), False),
        "ours, bfloat16": (ours(network), True),
    }
    if device != "cpu":
        variants["ours, bfloat16, compiled"] = (ours(torch.compile(network, dynamic=False)), True)
        variants["ours, bfloat16, compiled, graphs"] = (
            ours(torch.compile(network, dynamic=False, mode="reduce-overhead")),
            True,
        )
    times: dict[str, list[float]] = {name: [] for name in variants}
    memory = {}
    for number in range(repeats + 2):
        for name, (loss, short) in variants.items():
            autocast: AbstractContextManager[object] = torch.autocast(device, torch.bfloat16, enabled=short)

            def run(loss: Callable[[], Tensor] = loss, autocast: AbstractContextManager[object] = autocast) -> None:
                network.zero_grad(set_to_none=True)
                with autocast:
                    value = loss()
                value.backward()

            if device != "cpu":
                torch.cuda.reset_peak_memory_stats()
            taken = seconds(run, device)
            times[name] += [taken] if number >= 2 else []
            memory[name] = torch.cuda.max_memory_allocated() / 2**20 if device != "cpu" else 0.0
    base = statistics.median(times["reference, float32"])
    flop = 3 * FLOP_PER_PIXEL * batch * 64 * 64
    for name, taken in times.items():
        middle = statistics.median(taken)
        print(
            f"step, {name:34} {1000 * middle:9.2f} ms {base / middle:6.1f}x {memory[name]:8.0f} MiB "
            f"{flop / middle / 1e12 / TERAFLOPS:6.1%} of {TERAFLOPS:.0f} TFLOP/s"
        )


def inference(spec: MaskedSwinSpec, device: str, sizes: list[tuple[int, int]], repeats: int) -> None:
    """Time of tiled inference."""
    network = build(spec).to(device).eval()
    for height, width in sizes:
        image = torch.rand(1, 3, height, width, device=device)
        for short in (False, True):
            with torch.autocast(device, torch.bfloat16, enabled=short):
                taken = [
                    seconds(lambda image=image: denoise(network, image, InferenceSpec()), device)
                    for _ in range(repeats + 1)
                ]
            middle = statistics.median(taken[1:])
            name = "bfloat16" if short else "float32"
            print(f"inference, {height}x{width}, {name:8} {middle:8.3f} s {height * width / middle / 1e6:8.2f} Mpx/s")


def main() -> None:
    """Run all parts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--profile", action="store_true")
    options = parser.parse_args()
    spec = TINY if options.tiny else MaskedSwinSpec()
    spec = dataclasses.replace(spec, drop_path=0.0)
    print(f"torch {torch.__version__}, {options.device}", end=" ")
    print(torch.cuda.get_device_name() if options.device != "cpu" else "")
    equality(spec, options.device)
    steps(spec, options.device, 2 if options.tiny else 64, 3 if options.tiny else 20)
    sizes = [(64, 80)] if options.tiny else [(512, 512), (4000, 6000)]
    inference(spec, options.device, sizes, 1 if options.tiny else 3)
    if options.profile:
        with torch.profiler.profile() as profile:
            steps(spec, options.device, 2 if options.tiny else 64, 1)
        order = "self_cpu_time_total" if options.device == "cpu" else "self_device_time_total"
        print(profile.key_averages().table(sort_by=order, row_limit=25, max_name_column_width=60))


if __name__ == "__main__":
    main()
