"""One self-contained HTML file: numbers with their definitions, crops chosen by rule, curves, provenance."""

from __future__ import annotations

import importlib.metadata
import platform
import shlex
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

import pipeline
from pipeline.data.images import write_bytes
from pipeline.data.paths import shown
from pipeline.evaluation.encoding import (
    diverging_css,
    image_url,
    log_curve,
    log_ticks,
    residual_limit,
    residual_url,
    smoothed,
    step_ticks,
)
from pipeline.evaluation.gate_board import gate_board
from pipeline.evaluation.metrics import psnr_rgb_u8
from pipeline.evaluation.scores import SHORT_NAMES, image_table, psnr_text, score_board

_LOOK_FOR = {
    "hardest": "Look for smeared texture and for noise left over: nowhere is ours further from the truth.",
    "typical": "What to expect from most images. Compare fine texture and thin lines, not only flat parts.",
    "flattest": "Nothing to preserve here, so look for what should be gone: stains, streaks, a colour cast.",
    "noisiest": "The most noise and the most to lose: look for texture that was smeared away with it.",
}
_VERSIONS = ("torch", "numpy", "scikit-image", "ray", "mlflow")


def write_report(
    path: Path,
    *,
    title: str,
    run: Mapping[str, Any] | None,
    evaluation: Mapping[str, Any] | None,
    pictures: Sequence[Mapping[str, Any]],
    commands: Sequence[str],
) -> None:
    """Write the report; sections without data are left out.

    Args:
        path: HTML file, written atomically; its folder is created.
        title: heading.
        run: ``history`` (rows of log.jsonl), ``config`` (resolved, nested) and ``facts`` (label -> value,
            such as hashes and durations) and ``gate`` (of the card: passed, why, measures); every key may be missing.
        evaluation: what `pipeline.evaluation.evaluate.evaluate` returned.
        pictures: what `pipeline.evaluation.pictures` returned: dicts with name, noisy, baseline, denoised and
            clean (the last and the baseline may be None), optionally rule, reason and baseline_name.
        commands: what to type to get this again.
    """
    html = render_report(title=title, run=run, evaluation=evaluation, pictures=pictures, commands=commands)
    path.parent.mkdir(parents=True, exist_ok=True)
    # File names may hold bytes that are no text.
    write_bytes(path, html.encode("utf-8", "replace"))


def render_report(
    *,
    title: str,
    run: Mapping[str, Any] | None,
    evaluation: Mapping[str, Any] | None,
    pictures: Sequence[Mapping[str, Any]],
    commands: Sequence[str],
) -> str:
    """Return the report as HTML; everything that is not ours is escaped."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    run = run or {}
    return environment.get_template("report.html").render(
        title=title,
        written=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        version=pipeline.__version__,
        score=score_board(evaluation) if evaluation else None,
        gallery=_gallery(pictures) if pictures else None,
        curve=_curve(run.get("history") or []),
        gate=gate_board(run.get("gate")),
        table=image_table(evaluation) if evaluation else None,
        commands=list(commands),
        facts=_facts(run, evaluation),
        settings=_flat(run.get("config") or {}),
        scale=diverging_css(),
    )


def command_line(command: str, *arguments: object, **options: object) -> str:
    """Return an `unveil` command as a shell line; options that are None or empty are left out."""
    words = ["unveil", command, *(str(argument) for argument in arguments)]
    for name, value in options.items():
        if value is not None and value != "":
            words += [f"--{name}", str(value)]
    return shlex.join(words)


def _gallery(pictures: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {
        "blind": all(picture["clean"] is None for picture in pictures),
        "rows": [_picture(picture) for picture in pictures],
    }


def _picture(picture: Mapping[str, Any]) -> dict[str, Any]:
    noisy, clean = picture["noisy"], picture["clean"]
    others = [picture[key] for key in ("baseline", "denoised", "clean") if picture[key] is not None]
    limit = residual_limit([noisy - other for other in others])
    classical = picture.get("baseline_name") or "classical"
    candidates = [
        ("noisy", "noisy", noisy),
        ("classical", SHORT_NAMES.get(classical, classical), picture["baseline"]),
        ("ours", "ours", picture["denoised"]),
        ("clean", "clean", clean),
    ]
    rule = picture.get("rule") or ""
    panels = []
    for kind, label, image in candidates:
        if image is None:
            continue
        scored = clean is not None and kind != "clean"
        panels.append(
            {
                "kind": kind,
                "label": label,
                "url": image_url(image),
                "psnr": psnr_text(psnr_rgb_u8(image, clean)) if scored else None,
                "residual": None if kind == "noisy" else residual_url(noisy - image, limit),
            }
        )
    return {
        "name": shown(str(picture["name"])),
        "rule": rule,
        "reason": picture.get("reason") or "",
        "look": _LOOK_FOR.get(rule, ""),
        "size": f"{noisy.shape[1]} x {noisy.shape[0]} pixels",
        "panels": panels,
        "limit": f"{255 * limit:.0f}",
    }


def _curve(history: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    rows = [row for row in history if isinstance(row.get("loss"), int | float) and row["loss"] > 0]
    if len(rows) < 2:
        return None
    steps, losses = [float(row["step"]) for row in rows], [float(row["loss"]) for row in rows]
    smooth = smoothed(losses, max(len(losses) // 12, 3))
    # The first steps are often far off; they may leave the frame so that the rest can be seen.
    low, high = min(losses) * 0.95, float(np.quantile(losses, 0.995)) * 1.1
    span = (steps[0], steps[-1])

    def place(value: float) -> str:
        return f"{100 * (1 - np.log(value / low) / np.log(high / low)):.2f}%"

    last = rows[-1]
    seconds = last.get("seconds")
    return {
        "raw": log_curve(steps, losses, low=low, high=high, span=span),
        "smooth": log_curve(steps, smooth, low=low, high=high, span=span),
        "ticks": [{"at": place(tick), "text": f"{tick:.3g}"} for tick in log_ticks(low, high)],
        "steps_at": [
            {"at": f"{100 * (step - steps[0]) / (steps[-1] - steps[0]):.2f}%", "text": f"{step:,.0f}"}
            for step in step_ticks(*span)
        ],
        "final": f"{np.mean(losses[-max(len(losses) // 20, 1) :]):.3g}",
        "steps": f"{steps[-1]:,.0f}",
        "time": _duration(float(seconds)) if isinstance(seconds, int | float) else None,
    }


def _facts(run: Mapping[str, Any], evaluation: Mapping[str, Any] | None) -> list[tuple[str, str]]:
    facts = [(str(key), str(value)) for key, value in (run.get("facts") or {}).items()]
    if evaluation:
        facts += [("model", str(evaluation["model"])), ("data", str(evaluation["data"]))]
        facts += [("pairs", f"{evaluation['n']} of {evaluation['available']}, layout {evaluation['layout']}")]
    versions = [f"unveil {pipeline.__version__}", f"Python {platform.python_version()}"]
    for name in _VERSIONS:
        try:
            versions.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    facts.append(("versions", ", ".join(versions)))
    facts.append(("system", f"{platform.system()} {platform.machine()}"))
    return facts


def _flat(config: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = []
    for key, value in config.items():
        if isinstance(value, Mapping):
            rows += _flat(value, f"{prefix}{key}.")
        else:
            rows.append((f"{prefix}{key}", str(value)))
    return rows


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"
