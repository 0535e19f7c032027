"""What the masked Swin costs against the straightforward formulation, in CPU-seconds of interleaved runs.

    python tests/benchmarks/bench_masked_swin.py [--repeats 9] [--json]
    python tests/benchmarks/bench_masked_swin.py --crossover    # from how many hidden tokens the visible form pays

Paper configuration (824,118 parameters, input mask 80-90 %, attention mask 75 %), the same weights, one thread.
Reference: `reference_swin.py`, float32, which draws its masks on the host as the released code does; ours draws its
own. Before timing, both compute the same masks and must agree. Every variant of a round runs once, in turn; the ratio
is the median over rounds of the ratio within a round. Memory is the growth of a fresh process's peak.
"""

import argparse
import dataclasses
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[2]))

from models import MaskedSwin, MaskedSwinSpec, MaskedTraining, build, input_mask, l1, swin
from models.masks import attention_mask
from models.windows import window_tokens
from pipeline.data.allocator import keep_freed_memory
from tests.benchmarks.reference_swin import DrawMask, host_masks, reference_forward

SPEC = MaskedSwinSpec()
SEEDS = torch.arange(4) + 1
TARGETS = {"training step": {"float32": 3, "bfloat16": 5}, "256x256 inference": {"float32": 7, "bfloat16": 13}}


def our_masks(seeds: Tensor, height: int, width: int) -> DrawMask:
    """Our seeded attention masks in the order of the reference: windows of the rolled map."""

    def draw(layer: int, _windows: int, _tokens: int) -> Tensor:
        shift = SPEC.window // 2 if layer % 2 else 0
        mask = attention_mask(seeds, SPEC.attention_ratio, layer, height, width)
        return mask.flatten(1)[:, window_tokens(height, width, SPEC.window, shift)].flatten(0, 1)

    return draw


class Runs:
    """The four things that are timed; each leaves gradients or an output behind."""

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(0)
        self.network = build(SPEC).eval()
        assert isinstance(self.network, MaskedSwin)
        for name, parameter in self.network.named_parameters():
            if "attention" in name:  # at initial weights attention is nearly uniform and hides mistakes
                torch.nn.init.normal_(parameter, std=0.1, generator=generator)
        self.weights = dict(self.network.named_parameters())
        self.noisy, self.clean = (torch.rand(4, 3, 64, 64, generator=generator) for _ in range(2))
        self.image = torch.rand(1, 3, 256, 256, generator=generator)
        self.method = MaskedTraining()
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=0.0)

    def reference_step(self, draw: DrawMask | None = None) -> Tensor:
        """Forward, L1, backward, Adam."""
        shown = self.noisy.masked_fill(input_mask(SEEDS, 0.85, 64, 64), -0.1)
        return self._update(l1(reference_forward(self.weights, SPEC, shown, draw or host_masks(0.75, 0)), self.clean))

    def our_step(self, dtype: torch.dtype) -> Tensor:
        """The same through `MaskedTraining`."""
        with torch.autocast("cpu", dtype) if dtype != torch.float32 else nullcontext():
            loss = self.method.loss(self.network, self.noisy, self.clean, SEEDS)
        return self._update(loss)

    def reference_image(self, draw: DrawMask | None = None) -> Tensor:
        """Whole image, masks on."""
        with torch.inference_mode():
            return reference_forward(self.weights, SPEC, self.image, draw or host_masks(0.75, 0))

    def our_image(self, dtype: torch.dtype) -> Tensor:
        """The same with seeded masks."""
        autocast = torch.autocast("cpu", dtype) if dtype != torch.float32 else nullcontext()
        with torch.inference_mode(), autocast:
            return self.network(self.image, seeds=SEEDS[:1])

    def _update(self, loss: Tensor) -> Tensor:
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss.detach()


def check(runs: Runs) -> dict[str, float]:
    """Largest differences from the reference under the same masks: output, and gradients relative to the largest."""
    expected = runs.reference_image(our_masks(SEEDS[:1], 256, 256))
    found = {
        "output, float32": float((runs.our_image(torch.float32) - expected).abs().max()),
        "output, bfloat16": float((runs.our_image(torch.bfloat16) - expected).abs().max()),
    }
    ratio = runs.method.input_ratio
    runs.method = MaskedTraining(input_ratio=(0.85, 0.85))
    runs.reference_step(our_masks(SEEDS, 64, 64))
    expected = {name: value.grad.clone() for name, value in runs.weights.items()}
    for dtype in (torch.float32, torch.bfloat16):
        runs.our_step(dtype)
        found[f"gradient, {str(dtype).removeprefix('torch.')}"] = max(
            float((value.grad - expected[name]).abs().max() / expected[name].abs().max().clamp_min(1e-12))
            for name, value in runs.weights.items()
            if not name.endswith("qkv.bias")  # the key's part of it is zero but for rounding
        )
    runs.method = MaskedTraining(input_ratio=ratio)
    return found


def cpu_seconds(run: Callable[[], object]) -> float:
    """User and system time of one call."""
    start = time.process_time()
    run()
    return time.process_time() - start


def peak_rss_mib() -> float:
    """Peak resident memory of this process; not `ru_maxrss`, which starts at that of the parent."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def peak_mib(what: str) -> float:
    """Growth of the peak resident memory of a fresh process by one inference."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, __file__, "--peak", what]
    return float(subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout)


def crossover(runs: Runs, repeats: int) -> None:
    """Time of the plain form over that of the visible one, by the fraction of hidden tokens."""
    print("hidden   training step   inference")
    for ratio in (0.1, 0.2, 0.3, 0.4, 0.5, 0.65, 0.75, 0.85):
        spec = dataclasses.replace(SPEC, attention_ratio=ratio)
        network = build(spec).eval()
        network.load_state_dict(runs.network.state_dict())
        runs.network = network
        runs.optimizer = torch.optim.Adam(network.parameters(), lr=0.0)
        ratios = []
        for run in (runs.our_step, runs.our_image):
            rounds = []
            for number in range(repeats + 1):
                times = []
                for pays in (2.0, 0.0):  # of all tokens hidden: never, always
                    swin._VISIBLE_PAYS = pays
                    times.append(cpu_seconds(lambda run=run: run(torch.float32)))
                rounds += [times[0] / times[1]] if number else []
            ratios.append(statistics.median(rounds))
        print(f"{ratio:6.0%} {ratios[0]:14.2f}x {ratios[1]:10.2f}x")


def main() -> None:
    """Check, time, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--crossover", action="store_true")
    parser.add_argument("--peak", choices=["reference", "float32", "bfloat16"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    runs = Runs()
    images = {"reference": runs.reference_image}
    steps: dict[str, Callable[[], Tensor]] = {"reference": runs.reference_step}
    for name, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16)):
        images[name] = lambda dtype=dtype: runs.our_image(dtype)
        steps[name] = lambda dtype=dtype: runs.our_step(dtype)
    if options.peak:
        before = peak_rss_mib()
        images[options.peak]()
        print(peak_rss_mib() - before)
        return
    keep_freed_memory()  # as `unveil train` and `unveil denoise` do
    if options.crossover:
        crossover(runs, options.repeats)
        return
    differences = check(runs)
    rows = []
    for task, variants in (("training step", steps), ("256x256 inference", images)):
        rounds = []
        for number in range(options.repeats + 1):
            times = {name: cpu_seconds(run) for name, run in variants.items()}
            rounds += [times] if number else []  # the first one warms up
        for name in ("float32", "bfloat16"):
            rows.append(
                {
                    "task": task,
                    "precision": name,
                    "reference_s": statistics.median(times["reference"] for times in rounds),
                    "ours_s": statistics.median(times[name] for times in rounds),
                    "ratio": statistics.median(times["reference"] / times[name] for times in rounds),
                    "to_reach": TARGETS[task][name],
                }
            )
    memory = {name: peak_mib(name) for name in images}
    if options.json:
        print(json.dumps({"rows": rows, "differences": differences, "peak_mib": memory}))
        return
    print(f"{'':20} {'precision':10} {'reference':>10} {'ours':>8} {'ratio':>7}  to reach")
    for row in rows:
        print(
            f"{row['task']:20} {row['precision']:10} {row['reference_s']:9.2f}s {row['ours_s']:7.2f}s "
            f"{row['ratio']:6.1f}x  {row['to_reach']}x"
        )
    for name in ("float32", "bfloat16"):
        share = memory[name] / memory["reference"]
        print(f"{'peak memory':20} {name:10} {memory['reference']:7.0f}MiB {memory[name]:5.0f}MiB {share:7.2f}  0.25")
    for name, value in differences.items():
        print(f"largest difference   {name:20} {value:.1e}")


if __name__ == "__main__":
    main()
