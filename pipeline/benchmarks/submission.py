"""What made a submission: written beside it, so that half of one model and half of another never become one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pipeline.console import strict
from pipeline.data.folders import file_hash
from pipeline.data.images import write_bytes
from pipeline.data.paths import shown
from pipeline.errors import UserError
from pipeline.inference.denoiser import WEIGHTS_NAME, Denoiser, NetworkDenoiser

SUBMISSION_NAME = "submission.json"


def claim_folder(out: Path, benchmark: str, denoiser: Denoiser, *, overwrite: bool) -> dict[str, Any]:
    """Create the folder of a submission and write what makes it; return that.

    Args:
        out: the folder; may hold a part of the same submission.
        benchmark: ``sidd`` or ``dnd``.
        denoiser: what makes the submission.
        overwrite: take over a folder that holds another submission.

    Raises:
        UserError: the folder is a file, or holds what other weights, another mode or another benchmark made.
    """
    if out.exists() and not out.is_dir():
        raise UserError(f"--out {shown(out)}: expected a folder to write to, found a file")
    network = denoiser if isinstance(denoiser, NetworkDenoiser) else None
    mine: dict[str, Any] = strict(
        {
            "benchmark": benchmark,
            "weights_sha256": file_hash(network.folder / WEIGHTS_NAME) if network else None,
            "mode": network.describe() if network else None,
        }
    )
    place = out / SUBMISSION_NAME
    if place.exists() and not overwrite:
        theirs = _read(place)
        differing = [key for key in mine if theirs.get(key) != mine[key]]
        if differing:
            raise UserError(
                f"{shown(place)}: expected a submission of the same {', '.join(differing)}, found another; "
                "use another --out, or --overwrite"
            )
    out.mkdir(parents=True, exist_ok=True)
    write_bytes(place, (json.dumps(mine, indent=1) + "\n").encode())
    return mine


def _read(place: Path) -> dict[str, Any]:
    try:
        value = json.loads(place.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}
