"""The crops that rules chose, as panels that can be compared, with what each method removed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.data.paths import shown
from pipeline.evaluation.encoding import image_url, residual_limit, residual_url
from pipeline.evaluation.metrics import psnr_rgb_u8
from pipeline.evaluation.report_residual import residual_charts
from pipeline.evaluation.report_words import SHORT_NAMES, psnr_text

_LOOK_FOR = {
    "hardest": "Look for smeared texture and for noise left over: nowhere is ours further from the truth.",
    "typical": "What to expect from most images. Compare fine texture and thin lines, not only flat parts.",
    "flattest": "Nothing to preserve here, so look for what should be gone: stains, streaks, a colour cast.",
    "noisiest": "The most noise and the most to lose: look for texture that was smeared away with it.",
}


def gallery(pictures: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Return the pictures as panels; None if there are none."""
    if not pictures:
        return None
    return {
        "blind": all(picture["clean"] is None for picture in pictures),
        "rows": [_picture(picture) for picture in pictures],
    }


def picture_facts(picture: Mapping[str, Any]) -> dict[str, Any]:
    """Return what can be said of a picture without its pixels, for report.json."""
    clean = picture["clean"]
    scores = {
        key: psnr_rgb_u8(picture[key], clean)
        for key in ("noisy", "baseline", "denoised")
        if clean is not None and picture[key] is not None
    }
    return {
        "name": str(picture["name"]),
        "rule": picture.get("rule"),
        "reason": picture.get("reason"),
        "baseline_name": picture.get("baseline_name"),
        "psnr_rgb_u8_of_crop": scores or None,
        "residual": picture.get("residual"),
    }


def _picture(picture: Mapping[str, Any]) -> dict[str, Any]:
    noisy, clean = picture["noisy"], picture["clean"]
    others = [picture[key] for key in ("baseline", "denoised", "clean") if picture[key] is not None]
    limit = residual_limit([noisy - other for other in others])
    classical = picture.get("baseline_name") or "classical"
    candidates = [
        ("noisy", "noisy", noisy),
        ("classical", SHORT_NAMES.get(classical) or shown(classical), picture["baseline"]),
        ("ours", shown(picture.get("model_name") or "ours"), picture["denoised"]),
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
                "layer": {"ours": "denoised"}.get(kind, kind),
                "label": label,
                "url": image_url(image),
                "psnr": psnr_text(psnr_rgb_u8(image, clean)) if scored else None,
                "residual": None if kind == "noisy" else residual_url(noisy - image, limit),
            }
        )
    return {
        "name": shown(str(picture["name"])),
        "rule": shown(rule) if rule else "",
        "reason": shown(picture["reason"]) if picture.get("reason") else "",
        "look": _LOOK_FOR.get(rule, ""),
        "width": noisy.shape[1],
        "height": noisy.shape[0],
        "size": f"{noisy.shape[1]} x {noisy.shape[0]} pixels",
        "panels": panels,
        "limit": f"{255 * limit:.0f}",
        "residual": residual_charts(picture.get("residual")),
    }
