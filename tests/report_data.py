"""Made-up but plausible contents of a report: every section has something to show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]

METRICS = ("psnr_rgb_u8", "ssim_gauss11_rgb")
CONFIG: dict[str, Any] = {
    "seed": 0,
    "data": {"path": "photos/clean", "licence": "CC0, own photographs", "crop": 64, "layout": "auto"},
    "noise": {"kind": "gaussian", "sigma": [15.0, 15.0], "clip": True, "eight_bit": False},
    "network": {
        "kind": "masked_swin",
        "channels": 3,
        "dim": 24,
        "depths": [2, 2],
        "window": 8,
        "attention_ratio": 0.75,
        "attention_ratios": [],
    },
    "method": {"kind": "masked", "input_ratio": [0.75, 0.85], "site": "pixel", "fill": -0.1},
    "inference": {"mode": "direct", "mask_count": 2, "hole": [1, 1], "hole_shape": "box", "layout": "random"},
    "training": {"steps": 4000, "batch": 8},
}


def metric_values(psnr: float | None) -> dict[str, Any]:
    """One image of one method; a structural similarity that goes with the PSNR."""
    ssim = 1.0 if psnr is None else 1 / (1 + 10 ** ((18.5 - psnr) / 12))
    return {"psnr_rgb_u8": psnr, "ssim_gauss11_rgb": round(ssim, 4)}


def image_row(name: str, scores: Mapping[str, float | None], *, detail: float = 1.0, brightness: float = 0.5) -> Any:
    """A row of an evaluation's images."""
    methods = {method: {"metrics": metric_values(psnr)} for method, psnr in scores.items()}
    return {"name": name, "pixels": 1000, "detail": detail, "brightness": brightness, "methods": methods}


def one_set(rows: Sequence[Any], *, name: str = "photos", **top: Any) -> dict[str, Any]:
    """A set whose means and intervals follow from its images."""
    methods = {}
    for method in rows[0]["methods"]:
        metrics = {}
        for metric in METRICS:
            values = [row["methods"][method]["metrics"][metric] for row in rows]
            finite = [value for value in values if value is not None]
            mean = float(np.mean(finite)) if len(finite) == len(values) else None
            reach = 1.96 * float(np.std(finite)) / np.sqrt(len(finite)) if len(finite) > 1 else None
            interval = None if mean is None or reach is None else [mean - reach, mean + reach]
            metrics[metric] = {"mean": mean, "interval": interval, "n": len(values)}
        methods[method] = {"metrics": metrics, "seconds_per_megapixel": 0.8, "visible_offsets": None, "blind": None}
    return {
        "name": name,
        "kind": "pairs",
        "data": "data",
        "layout": "pairs",
        "noise": None,
        "hash": "d" * 64,
        "n": len(rows),
        "available": len(rows),
        "unpaired": [],
        "methods": methods,
        "images": list(rows),
        "paired": [],
    } | top


def evaluation_of(sets: Sequence[Any], labels: Sequence[str] = ("ours",), **top: Any) -> dict[str, Any]:
    """An evaluation, format 2, of some sets."""
    from pipeline.evaluation.metrics import definitions

    models = [
        {"label": label, "ref": f"runs/{label}", "sha256": "a" * 64, "mode": None, "parameters": 37755, "seed": 0}
        | {"trained_on": None, "group": None}
        for label in labels
    ]
    methods = dict.fromkeys(name for one in sets for name in one["methods"])
    return {
        "format": 2,
        "unveil": "0.9.0",
        "protocol": {"name": "unveil", "text": "full images, 8-bit rounding, mean of per-image values"},
        "metrics": list(METRICS),
        "definitions": definitions(METRICS),
        "models": models,
        "baselines": [name for name in methods if name != "noisy" and name not in labels],
        "sets": list(sets),
        "groups": [],
    } | top


def full_evaluation(rows: Sequence[Any], noises: int = 3) -> dict[str, Any]:
    """Pairs, photos, and kinds of made noise at rising levels, for two models and two classical methods."""
    rng = np.random.default_rng(0)
    labels = ("masked", "plain")
    paired = [
        {"a": "masked", "b": "nlm", "metric": "psnr_rgb_u8", "difference": 0.42, "interval": [0.30, 0.50], "p": 4e-4}
        | {"wins": len(rows) - 1, "losses": 1, "n": len(rows)},
        {"a": "masked", "b": "plain", "metric": "psnr_rgb_u8", "difference": -0.04, "interval": [-0.2, 0.12], "p": 0.4}
        | {"wins": len(rows) // 2, "losses": len(rows) // 2, "n": len(rows)},
    ]
    sets = [one_set(rows, name="camera pairs", paired=paired)]
    sets[0]["methods"]["masked"]["visible_offsets"] = 1
    sets.append(_photos())
    for recipe, levels, drop in (
        ("poisson", (1.5, 2.0, 2.5, 3.0, 3.5), 2.2),
        ("speckle", (0.02, 0.024, 0.03, 0.04), 90.0),
        ("salt and pepper", (0.004, 0.008, 0.012, 0.016), 260.0),
    )[:noises]:
        for level in levels:
            noisy = 33.0 - drop * level
            made = [
                image_row(
                    f"kodim{index:02d}",
                    {
                        "noisy": noisy + rng.normal(0, 0.4),
                        "nlm": noisy + 2.4 + rng.normal(0, 0.8),
                        "tv": noisy + 1.5 + rng.normal(0, 0.8),
                        "masked": 34.9 - 0.62 * drop * level + rng.normal(0, 0.8),
                        "plain": 35.2 - 0.92 * drop * level + rng.normal(0, 0.8),
                    },
                )
                for index in range(1, 5)
            ]
            noise = {"recipe": recipe, "level": level, "seed": 1}
            sets.append(one_set(made, name=f"kodak24 {recipe} {level}", kind="synthetic", noise=noise, data="kodak24"))
    spread = {"psnr_rgb_u8": {"mean": 31.2, "sd": 0.11, "n": 3}, "ssim_gauss11_rgb": {"mean": 0.9, "sd": 0.002, "n": 3}}
    groups = [{"group": "masked", "models": ["masked-0", "masked-1", "masked-2"], "sets": {"camera pairs": spread}}]
    return evaluation_of(sets, labels, groups=groups)


def _photos() -> dict[str, Any]:
    blind = {"noise_sigma_before": 8.2, "noise_sigma_after": 1.1, "structure_lost": 0.04, "mean_drift": -0.02}
    methods = {
        name: {"metrics": {}, "seconds_per_megapixel": None, "visible_offsets": None, "blind": blind}
        for name in ("masked", "plain")
    }
    return {"name": "phone photos", "kind": "photos", "data": "phone", "layout": "photos", "noise": None} | {
        "hash": "e" * 64,
        "n": 7,
        "available": 7,
        "unpaired": [],
        "methods": methods,
        "images": [],
        "paired": [],
    }


def residual_panel(sigma: float = 6.0) -> dict[str, Any]:
    """What `pipeline.evaluation.blind.residual_panel` returns, from formulas."""
    edges = np.linspace(-24, 24, 33)
    middles = (edges[1:] + edges[:-1]) / 2
    normal = np.exp(-0.5 * (middles / sigma) ** 2) / (sigma * np.sqrt(2 * np.pi))
    across = np.arange(-7, 8)
    correlation = 0.18 ** np.hypot(*np.meshgrid(across, across))
    levels = np.linspace(10, 245, 16)
    return {
        "histogram": {
            "edges": edges.tolist(),
            "density": (normal * (1 + 0.06 * np.sin(3 * middles))).tolist(),
            "fitted": normal.tolist(),
        },
        "correlation": correlation.tolist(),
        "by_level": {"level": levels.tolist(), "mean": (0.4 * np.sin(levels / 30)).tolist()},
    }


def pair_of(clean: Pixels, sigma: float, rng: np.random.Generator) -> tuple[Pixels, Pixels]:
    """Noisy and denoised of a clean crop: Gaussian noise, and a blur where a network would stand."""
    from scipy.ndimage import gaussian_filter

    noise = rng.normal(0, sigma, clean.shape)
    noisy = np.clip(np.rint(clean + noise), 0, 255).astype(np.uint8)
    denoised = np.clip(np.rint(gaussian_filter(clean + noise, (1, 1, 0))), 0, 255).astype(np.uint8)
    return noisy, denoised


def psnr(image: Pixels, clean: Pixels) -> float:
    """Peak signal-to-noise ratio of 8-bit pixels."""
    return float(20 * np.log10(255 / np.sqrt(np.mean((image.astype(float) - clean) ** 2))))


def sheet_of(cleans: Sequence[tuple[str, str, Pixels]], sigma: float = 12.0) -> list[dict[str, Any]]:
    """Tiles of a contact sheet from (name, set, clean crop)."""
    rng = np.random.default_rng(1)
    tiles = []
    for name, group, clean in cleans:
        noisy, denoised = pair_of(clean, sigma, rng)
        tiles.append(
            {"name": name, "set": group, "noisy": noisy, "denoised": denoised, "clean": clean}
            | {"psnr_noisy": psnr(noisy, clean), "psnr_denoised": psnr(denoised, clean)}
        )
    return tiles


def pictures_of(cleans: Sequence[tuple[str, str, Pixels]], sigma: float = 18.0) -> list[dict[str, Any]]:
    """Pictures by rule, the first with its residual panel."""
    from scipy.ndimage import median_filter

    rng = np.random.default_rng(2)
    reasons = {
        "hardest": "the image with our lowest PSNR, and in it the window where our error is largest",
        "typical": "the image whose gain over the noisy input is the median, and its window of median error",
        "flattest": "the image of least detail that is neither black nor white, and its window of least detail",
    }
    pictures = []
    for (rule, reason), (name, _, clean) in zip(reasons.items(), cleans, strict=False):
        noisy, denoised = pair_of(clean, sigma, rng)
        crops = {
            "noisy": noisy,
            "baseline": median_filter(noisy, (3, 3, 1)),
            "denoised": denoised,
            "clean": clean,
        }
        floats = {key: crop.astype(np.float32) / 255 for key, crop in crops.items()}
        pictures.append(
            {"name": name, "rule": rule, "reason": reason, "baseline_name": "nlm", **floats}
            | {"residual": residual_panel(sigma) if not pictures else None}
        )
    return pictures


def history(steps: int = 4000) -> list[dict[str, Any]]:
    """Rows of a log."""
    rng = np.random.default_rng(3)
    return [
        {
            "step": step,
            "loss": float(0.021 + 0.12 * np.exp(-step / 400) + abs(rng.normal(0, 0.002))),
            "lr": float(1e-3 * min(1, step / 200) * (0.5 + 0.5 * np.cos(np.pi * step / steps))),
            "grad_norm": float(0.2 + np.exp(-step / 500) + abs(rng.normal(0, 0.05))),
            "images_per_second": float(29 + rng.normal(0, 1)),
            "skipped_steps": 0 if step < 2600 else 2,
            "seconds": step * 1.7,
        }
        for step in range(20, steps + 1, 20)
    ]


def noise_curves() -> list[dict[str, Any]]:
    """A measured file and what was synthesised for it."""
    rng = np.random.default_rng(4)
    entries = []
    for kind, label, shift in (
        ("measured", "IMG_0042.dng", 1.0),
        ("measured", "IMG_0057.dng", 1.6),
        ("synthesised", "camera recipe, ISO 3200", 1.05),
    ):
        channels = []
        for name, shot, read in (("R", 8e-4, 2e-5), ("G", 6e-4, 1.6e-5), ("B", 9e-4, 2.6e-5)):
            levels = np.sort(rng.uniform(0.01, 0.8, 40))
            variance = (shot * levels + read) * shift * rng.normal(1, 0.06, 40)
            curve = np.stack([levels, variance, np.ones(40)], axis=1).tolist()
            channels.append({"name": name, "curve": curve, "shot": shot * shift, "read": read * shift})
        entries.append({"kind": kind, "label": label, "channels": channels})
    return entries


def tune() -> dict[str, Any]:
    """What tune.json holds."""
    rng = np.random.default_rng(5)
    trials = []
    for number in range(10):
        lr, ratio = float(10 ** rng.uniform(-4, -2)), float(rng.uniform(0.4, 0.95))
        score = 31 - 1.2 * (np.log10(lr) + 2.9) ** 2 - 9 * (ratio - 0.8) ** 2 + rng.normal(0, 0.1)
        state = "finished" if number % 3 else "stopped"
        trials.append(
            {
                "key": f"t{number}",
                "number": number,
                "state": state,
                "score": float(score),
                "rung": 3 if number % 3 else 1,
            }
            | {"overrides": {"optimizer.lr": lr, "method.input_ratio": [ratio, ratio], "method.site": "pixel"}}
            | {
                "step": 1200 if number % 3 else 300,
                "seconds": 95.0,
                "preset": number == 1,
                "error": None,
                "history": [
                    {"rung": rung, "step": 400 * rung, "score": float(score) - 0.4 * (3 - rung)}
                    for rung in (1, 3)
                    if number % 3 or rung == 1
                ],
            }
        )
    best = max((trial for trial in trials if trial["state"] == "finished"), key=lambda trial: trial["score"])
    return {
        "out": "runs/search",
        "best": best,
        "score_name": "psnr_held_out",
        "score_mode": "max",
        "trials": trials,
    } | {
        "score_definition": "PSNR on held-out crops, in dB",
        "rungs": 3,
        "failed": 0,
        "leaders": [{"key": best["key"], "mean": best["score"] - 0.1, "sd": 0.2, "n": 3}],
        "importance": {
            "method": "random forest, main effects",
            "rung": 1,
            "trials": 10,
            "shares": {"optimizer.lr": 0.61, "method.input_ratio.low": 0.12},
            "chance": {"optimizer.lr": 0.3, "method.input_ratio.low": 0.34},
        },
    }


def population() -> dict[str, Any]:
    """What tune.json holds where settings changed on the way: member b took over from a after the first interval."""
    rates = {"a": [0.001, 0.001, 0.00125], "b": [0.01, 0.0008, 0.0008]}
    masks = {"a": [2, 2, 3], "b": [4, 2, 2]}
    parents = {"a": [None, "a", "a"], "b": [None, "a", "b"]}
    scores = {"a": [20.0, 21.0, 22.5], "b": [15.0, 21.5, 22.0], "given": [19.0, 20.0, 21.0]}
    members = [
        {
            "key": key,
            "intervals": [
                {
                    "to_step": 100 * (at + 1),
                    "parent": parents[key][at],
                    "settings": {"optimizer.lr": rates[key][at], "method.mask_count": masks[key][at]},
                    "score": scores[key][at],
                }
                for at in range(3)
            ],
        }
        for key in rates
    ]
    plan = [
        {"from_step": 100 * at, "to_step": 100 * (at + 1), "member": "a", "settings": one["settings"]}
        for at, one in enumerate(members[0]["intervals"])
    ]
    trials = [
        {
            "key": key,
            "number": number,
            "state": "finished",
            "score": rows[-1],
            "rung": 3,
            "overrides": {"optimizer.lr": 0.001},
            "step": 300,
            "seconds": 9.0,
            "preset": key == "given",
            "error": None,
            "history": [{"rung": at + 1, "step": 100 * (at + 1), "score": score} for at, score in enumerate(rows)],
        }
        for number, (key, rows) in enumerate(scores.items())
    ]
    return {
        "best": trials[0],
        "score_name": "psnr",
        "score_mode": "max",
        "rungs": 3,
        "trials": trials,
        "population": {"intervals": 3, "steps": 300, "winner": "a", "schedule": plan, "members": members},
    }


def analysis() -> dict[str, Any]:
    """What ``unveil analyze`` writes."""
    layers = [f"block {index}" for index in range(1, 5)]
    distance = np.abs(np.subtract.outer(np.arange(4), np.arange(4)))
    cka = [
        {
            "title": f"{model}: gaussian and poisson",
            "rows": layers,
            "columns": layers,
            "values": (top * 0.86**distance).tolist(),
        }
        for model, top in (("masked", 0.97), ("plain", 0.62))
    ]
    srga = [
        {"model": model, "noise": noise, "value": value}
        for model, values in (("masked", (0.0, 0.11, 0.2)), ("plain", (0.0, 0.64, 0.93)))
        for noise, value in zip(("gaussian", "poisson", "speckle"), values, strict=True)
    ]
    edges = np.linspace(-4, 4, 41)
    middles = (edges[1:] + edges[:-1]) / 2
    histograms = [
        {"model": model, "noise": noise, "edges": edges.tolist(), "density": np.exp(-((middles - at) ** 2)).tolist()}
        for model, shift in (("masked", 0.1), ("plain", 0.7))
        for noise, at in (("gaussian", 0.0), ("poisson", shift), ("speckle", 2 * shift))
    ]
    return {"cka": cka, "srga": srga, "histograms": histograms}


def full_report(cleans: Sequence[tuple[str, str, Pixels]], noises: int = 3) -> dict[str, Any]:
    """Arguments of `pipeline.evaluation.report.write_report` that fill every section.

    Args:
        cleans: (name, set, crop) with crops of (h, w, 3), at least three.
        noises: kinds of made noise.
    """
    from pipeline.evaluation.report_masks import mask_pictures

    rng = np.random.default_rng(6)
    sheet = sheet_of(cleans)
    rows = [
        image_row(
            tile["name"],
            {
                "noisy": tile["psnr_noisy"],
                "nlm": tile["psnr_denoised"] - 0.4 + rng.normal(0, 0.5),
                "tv": tile["psnr_denoised"] - 0.9 + rng.normal(0, 0.5),
                "masked": tile["psnr_denoised"],
                "plain": tile["psnr_denoised"] - 0.1 + rng.normal(0, 0.4),
            },
        )
        for tile in sheet
    ]
    held_out = [{"step": step, "value": 0.03 + 0.02 * float(np.exp(-step / 700))} for step in range(250, 4001, 250)]
    return {
        "title": "masked on camera pairs",
        "run": {
            "history": history(),
            "held_out": held_out,
            "config": CONFIG,
            "card": {"data": {"path": "photos/clean", "images": 240, "hash": "c" * 64, "licence": "CC0"}}
            | {"training": {"steps": 4000, "seconds": 6800.0, "skipped_steps": 2}},
            "parameters": 37755,
            "facts": {"run": "runs/masked"},
            "gate": {
                "passed": True,
                "why": "its residual is as white as the noise and holds no structure",
                "measures": {},
            },
        },
        "evaluation": full_evaluation(rows, noises),
        "pictures": pictures_of(cleans),
        "sheet": sheet,
        "analysis": analysis(),
        "tune": tune(),
        "noise": noise_curves(),
        "masks": mask_pictures(CONFIG),
        "commands": [
            "unveil train --data photos/clean --out runs/masked --preset masked_swin_small",
            "unveil evaluate --model runs/masked --data pairs --out evaluation.json",
            "unveil report runs/masked --evaluation evaluation.json",
        ],
    }
