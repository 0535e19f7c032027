"""The noise levels of the user's own camera, from the raw files of a survey, as a file for ``synth --levels``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pipeline.data.images import write_bytes
from pipeline.data.paths import shown
from pipeline.errors import UserError


def save_levels_of(rows: list[dict[str, Any]], path: Path) -> str:
    """Fit noise levels to the raw files among the rows of a survey and write them as JSON.

    Returns:
        A line that says what was fitted, and how to use it.

    Raises:
        UserError: no raw files, several cameras, or no file that tells both shot and read noise.
    """
    from noise.level_fit import Exposure, fit_levels
    from noise.levels import LevelLine
    from noise.spec_json import spec_to_dict

    raws = [row for row in rows if row["raw"] and row["noise"]]
    if not raws:
        raise UserError("--save-levels: expected raw files of one camera, found none that was measured")
    cameras = sorted({row["raw"]["camera"] for row in raws})
    if len(cameras) > 1:
        raise UserError(f"--save-levels: expected one camera, found {', '.join(name or 'unknown' for name in cameras)}")
    exposures = [Exposure(line=_line(row), iso=row["raw"]["iso"]) for row in raws]
    try:
        levels = fit_levels(exposures)
    except ValueError as error:
        raise UserError(f"--save-levels: {error}") from error
    write_bytes(path, (json.dumps(spec_to_dict(levels), indent=2) + "\n").encode())
    if isinstance(levels, LevelLine):
        what = f"ln read = {levels.slope:.2f} ln shot {levels.intercept:+.2f}, scatter {levels.std:.2f}"
    else:
        count = len(levels.points)
        what = f"a table of {count} gain{'s' * (count > 1)}"
    files = f"{len(raws)} file{'s' * (len(raws) > 1)}"
    return f"noise levels of {files} ({what}): {shown(path)}; use it with unveil synth --levels"


def _line(row: dict[str, Any]) -> Any:
    """The file's line; where it is not told, what the file's own NoiseProfile states."""
    from noise.noise_line import NoiseLine
    from noise.raw_noise import profile_line

    noise, profile = row["noise"], row["raw"]["noise_profile"]
    if profile and noise["shot"] is None and row["raw"]["kind"] == "bayer":
        return profile_line(tuple((shot, read) for shot, read in profile))
    return NoiseLine(
        shot=noise["shot"],
        read=noise["read"],
        shot_interval=tuple(noise["shot_interval"]),
        read_interval=tuple(noise["read_interval"]),
        method=noise["method"],
        curve=tuple(tuple(point) for channel in noise["channels"] for point in channel["curve"]),
    )
