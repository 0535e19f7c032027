"""An evaluation as a reader wants it: a sentence, a scale with a dot a method, a row an image."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from pipeline.data.paths import shown
from pipeline.evaluation.metrics import DEFINITIONS

BASELINE_NAMES = {
    "nlm": "non-local means (NLM)",
    "tv": "total variation (TV)",
    "wavelet": "wavelet BayesShrink",
    "bm3d": "BM3D",
}
"""Names on the command line -> names in words."""

SHORT_NAMES = {"nlm": "NLM", "tv": "TV", "wavelet": "wavelet", "bm3d": "BM3D"}
"""Names on the command line -> names that fit under a crop."""

_LEVEL = 0.05


def score_board(evaluation: Mapping[str, Any]) -> dict[str, Any]:
    """Return verdict, rows with their place on a common decibel scale, ticks and definitions."""
    rows = [("noisy input", "noisy", evaluation["noisy"])]
    rows += [(BASELINE_NAMES.get(key, key), "classical", row) for key, row in evaluation["baselines"].items()]
    rows += [("ours", "ours", evaluation)]
    psnr = [row["psnr_rgb_u8"] for _, _, row in rows if row["psnr_rgb_u8"] is not None]
    low, high = np.floor(min(psnr, default=20) - 0.25), np.ceil(max(psnr, default=40) + 0.25)
    step = next(step for step in (0.5, 1, 2, 5, 10) if (high - low) / step <= 6)
    ticks = np.arange(np.ceil(low / step) * step, high + 1e-9, step)

    def place(value: float) -> str:
        return f"{100 * (value - low) / (high - low):.2f}%"

    return {
        "verdict": _verdict(evaluation),
        "n": evaluation["n"],
        "protocol": evaluation["protocol"],
        "layout": evaluation["layout"],
        "rows": [
            {
                "label": label,
                "kind": kind,
                "psnr": psnr_text(row["psnr_rgb_u8"]),
                "ssim": ssim_text(row["ssim_gauss11_rgb"]),
                "at": place(row["psnr_rgb_u8"]) if row["psnr_rgb_u8"] is not None else "100%",
            }
            for label, kind, row in rows
        ],
        "ticks": [{"at": place(float(tick)), "text": f"{tick:g}"} for tick in ticks],
        "definitions": dict(evaluation.get("definitions") or DEFINITIONS),
    }


def _verdict(evaluation: Mapping[str, Any]) -> str:
    ours, noisy = evaluation["psnr_rgb_u8"], evaluation["noisy"]["psnr_rgb_u8"]
    if ours is None or noisy is None:
        return f"Measured on {evaluation['n']} pairs of a noisy and a clean image."
    plural = "pair" if evaluation["n"] == 1 else "pairs"
    parts = [f"Over {evaluation['n']} {plural}, our output is {_compared(ours - noisy)} the noisy input"]
    scores = {key: row["psnr_rgb_u8"] for key, row in evaluation["baselines"].items()}
    best = max(scores, key=lambda key: scores[key] or 0.0, default=None)
    if best is not None and scores[best] is not None:
        name = BASELINE_NAMES.get(best, best)
        which = "the classical method beside it" if len(scores) == 1 else "the best of the classical methods"
        parts.append(f"and {_compared(ours - scores[best])} {name}, {which}")
    return " ".join(parts) + "."


def _compared(gain: float) -> str:
    if abs(gain) < _LEVEL:
        return "level with"
    return f"{abs(gain):.1f} dB {'above' if gain > 0 else 'below'}"


def image_table(evaluation: Mapping[str, Any]) -> dict[str, Any]:
    """Return one row an image, with the best denoiser marked and the gain as a bar."""
    names = list(evaluation["baselines"])
    gains = [_gain(row) for row in evaluation["images"]]
    widest = max((abs(gain) for gain in gains if gain is not None), default=1.0) or 1.0
    rows = []
    for row, gain in zip(evaluation["images"], gains, strict=True):
        scores = [row["model"]["psnr_rgb_u8"], *(row["baselines"][name]["psnr_rgb_u8"] for name in names)]
        best = max((score for score in scores if score is not None), default=None)
        rows.append(
            {
                "name": shown(row["name"]),
                "noisy": psnr_text(row["noisy"]["psnr_rgb_u8"]),
                "ours": {"text": psnr_text(scores[0]), "best": scores[0] == best},
                "others": [{"text": psnr_text(score), "best": score == best} for score in scores[1:]],
                "gain": "" if gain is None else f"{gain:+.2f}".replace("-", "\N{MINUS SIGN}"),
                "width": "0%" if gain is None else f"{50 * abs(gain) / widest:.1f}%",
                "sign": "minus" if gain is not None and gain < 0 else "plus",
                "ssim": [ssim_text(row[who]["ssim_gauss11_rgb"]) for who in ("noisy", "model")],
            }
        )
    return {"columns": names, "rows": rows, "long": len(rows) > 24}


def _gain(row: Mapping[str, Any]) -> float | None:
    ours, noisy = row["model"]["psnr_rgb_u8"], row["noisy"]["psnr_rgb_u8"]
    return None if ours is None or noisy is None else float(ours - noisy)


def psnr_text(value: float | None) -> str:
    """Format decibels; ``equal`` for infinity, which JSON holds as null."""
    return "equal" if value is None or not np.isfinite(value) else f"{value:.2f}"


def ssim_text(value: float | None) -> str:
    """Format a structural similarity."""
    return "" if value is None else f"{value:.4f}"
