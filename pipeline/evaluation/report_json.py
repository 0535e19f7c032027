"""report.json: every number of the page, for scripts."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pipeline.console import strict
from pipeline.evaluation.report_data import ReportData
from pipeline.evaluation.report_pictures import picture_facts
from pipeline.evaluation.report_run import hashes, run_facts, versions

FORMAT = 1
_OF_RUN = ("facts", "config", "card", "gate", "history", "held_out")
_OF_TILE = ("name", "set", "psnr_noisy", "psnr_denoised")


def report_json(data: ReportData, *, written: str, verdict: str, sections: Sequence[str], html: bytes) -> bytes:
    """Return the JSON that stands beside a page: strict, so that infinite and missing numbers are null."""
    import hashlib

    value = {
        "format": FORMAT,
        "title": data.title,
        "written": written,
        "verdict": verdict,
        "sections": list(sections),
        "html_sha256": hashlib.sha256(html).hexdigest(),
        "facts": dict(run_facts(data.run, data.evaluation)),
        "run": {key: data.run[key] for key in _OF_RUN if key in data.run},
        "evaluation": data.evaluation,
        "pictures": [picture_facts(picture) for picture in data.pictures],
        "sheet": [{key: item.get(key) for key in _OF_TILE} for item in data.sheet],
        "noise": list(data.noise),
        "analysis": data.analysis,
        "tune": data.tune,
        "commands": list(data.commands),
        "hashes": dict(hashes(data.run, data.evaluation)),
        "versions": versions(),
    }
    # Names may hold bytes that are no text; JSON escapes them, and readers get a replacement.
    text = json.dumps(strict(_plain(value)), indent=1, allow_nan=False)
    return (text + "\n").encode("utf-8", "replace")


def _plain(value: Any) -> Any:
    """Arrays as lists, anywhere inside."""
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value
