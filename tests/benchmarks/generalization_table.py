"""Tables of docs/results/generalization.md: an evaluation of the suite `masked`, beside the paper's figure 11.

.venv/bin/python -m pipeline evaluate --model ... --clean kodak24 --suite masked --out suite.json
.venv/bin/python tests/benchmarks/generalization_table.py suite.json
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

PAPER: dict[tuple[str, float | None], tuple[tuple[float, float], tuple[float, float]]] = {
    ("spatial", 40): ((29.6, 0.830), (29.3, 0.783)),
    ("spatial", 45): ((28.9, 0.805), (27.8, 0.722)),
    ("spatial", 50): ((28.1, 0.774), (26.6, 0.664)),
    ("spatial", 55): ((27.3, 0.739), (25.4, 0.612)),
    ("spatial", 60): ((26.5, 0.705), (24.5, 0.567)),
    ("speckle", 0.018): ((31.4, 0.877), (30.7, 0.822)),
    ("speckle", 0.024): ((30.8, 0.862), (28.3, 0.761)),
    ("speckle", 0.03): ((30.2, 0.841), (26.6, 0.707)),
    ("speckle", 0.036): ((29.6, 0.816), (25.2, 0.663)),
    ("speckle", 0.04): ((29.1, 0.800), (24.5, 0.638)),
    ("poisson", 2): ((30.6, 0.852), (27.7, 0.706)),
    ("poisson", 2.5): ((28.8, 0.772), (23.8, 0.552)),
    ("poisson", 3): ((27.1, 0.684), (21.2, 0.435)),
    ("poisson", 3.5): ((25.5, 0.605), (19.4, 0.354)),
    ("mixture", 1): ((30.3, 0.853), (28.1, 0.730)),
    ("mixture", 2): ((29.6, 0.826), (26.2, 0.630)),
    ("mixture", 3): ((28.1, 0.751), (23.2, 0.477)),
    ("mixture", 4): ((26.9, 0.684), (21.4, 0.387)),
    ("mixture", 5): ((25.9, 0.627), (20.1, 0.330)),
    ("isp", None): ((29.44, 0.792), (28.89, 0.7595)),
}
"""(noise, level) -> (masked, plain) as (PSNR, SSIM) on Kodak24: figure 11, read off within 0.05 dB and 0.003, and table
3c (ISP)."""

METRICS = ("psnr_rgb_u8", "ssim_gauss11_rgb")


def cells(one: dict[str, Any], result: dict[str, Any], metric: str) -> dict[str, str]:
    """Column -> mean of a set, with the spread over seeds where there are several."""
    digits = 2 if metric.startswith("psnr") else 3
    grouped = {label for group in result["groups"] for label in group["models"]}
    found = {}
    for label, method in one["methods"].items():
        if label not in grouped:
            found[label] = f"{method['metrics'][metric]['mean']:.{digits}f}"
    for group in result["groups"]:
        value = group["sets"][one["name"]][metric]
        found[group["group"]] = f"{value['mean']:.{digits}f} ±{value['sd']:.{digits}f}"
    return found


def table(result: dict[str, Any], at: int) -> str:
    """One Markdown table of a metric, the best of ours in bold."""
    metric = METRICS[at]
    rows = [(one, cells(one, result, metric)) for one in result["sets"]]
    columns = list(rows[0][1])
    lines = [f"| {metric} | {' | '.join(columns)} | paper, masked | paper, plain |", "|---" * (len(columns) + 3) + "|"]
    for one, values in rows:
        noise = one["noise"]
        best = max(columns, key=lambda name: float(values[name].split(" ")[0]))
        shown = [f"**{values[name]}**" if name == best else values[name] for name in columns]
        known = PAPER.get((noise["recipe"], noise["level"]))
        paper = ["", ""] if known is None else [f"{who[at]:g}" for who in known]
        level = "" if noise["level"] is None else f" {noise['level']:g}"
        lines.append(f"| {noise['recipe'].replace('_', ' ')}{level} | {' | '.join([*shown, *paper])} |")
    return "\n".join(lines)


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("evaluation", type=Path, help="written by `unveil evaluate --suite masked --out`")
    options = parser.parse_args()
    result = json.loads(options.evaluation.read_text())
    print(f"{result['sets'][0]['n']} of {result['sets'][0]['available']} pictures\n")
    print("\n\n".join(table(result, at) for at in range(len(METRICS))))


if __name__ == "__main__":
    main()
