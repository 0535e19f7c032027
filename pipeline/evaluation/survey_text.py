"""A survey in words, for a terminal of 80 columns."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.data.paths import shown

if TYPE_CHECKING:
    from rich.table import Table

LISTED = 40
DETAILED = 3
"""Up to this many files are told about at length."""


def kinds(rows: list[dict[str, Any]]) -> Iterator[str]:
    """One line for each kind of file, the most frequent eight."""
    counts = Counter(_kind(row) for row in rows if not row["error"])
    for kind, count in counts.most_common(8):
        yield f"{count} x {kind}"
    if len(counts) > 8:
        yield f"and {len(counts) - 8} other kinds"


def table_of_files(rows: list[dict[str, Any]]) -> Table:
    """One row for each file: what it is, how noisy its display image, and its noise line."""
    from rich.table import Table
    from rich.text import Text

    table = Table(pad_edge=False)
    table.add_column("file", overflow="fold", max_width=24)
    table.add_column("size, kind", overflow="fold")
    for name in ("sigma\nof 255", "shot", "read"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        label = Text(shown(Path(row["path"]).name))
        if row["error"]:
            table.add_row(label, Text(reason(row), style="red"))
            continue
        noise = row["noise"]
        if noise is None and len(rows) > LISTED:
            continue
        cells = ["", "", ""]
        if noise:
            sigma = noise.get("sigma")
            cells = [
                f"{sum(sigma) / len(sigma):.1f}" if sigma else "",
                *(short(noise, key) for key in ("shot", "read")),
            ]
        table.add_row(label, Text(_short_kind(row)), *cells)
    return table


def details(row: dict[str, Any]) -> Iterator[str]:
    """A file at length: facts, noise line of each channel, correlation, notes."""
    yield f"{shown(Path(row['path']).name)}: {_kind(row)}"
    raw, noise = row["raw"], row["noise"]
    if raw:
        yield from _sensor(raw)
    if noise is None:
        yield "  noise not measured: fewer than 32x32 pixels"
        return
    yield from channel_lines(noise)
    if "sigma" in noise:
        sigma = " ".join(f"{value:.1f}" for value in noise["sigma"])
        low, high = noise["interval"]
        picture = "developed picture" if raw else "picture"
        sure = "" if noise["reliable"] else "; few flat areas: unsure"
        yield f"  {picture}: sigma {sigma} of 255 (mean {low:.1f} to {high:.1f}{sure})"
        yield f"  neighbours correlate {_pair(row['correlation'])}, channels {_between(row['correlation'])}"
    if raw and raw.get("correlation"):
        unsure = "" if raw["correlation"]["reliable"] else " (texture)"
        yield f"  raw planes: neighbours correlate {_pair(raw['correlation'])}{unsure}"
    for note in (raw or {}).get("notes", []):
        yield f"  note: {note}"


def channel_lines(noise: dict[str, Any]) -> Iterator[str]:
    """The noise line of each channel and of all of them, with 95 % intervals."""
    yield f"  noise: variance = shot * level + read ({noise['method']}; 95 % intervals)"
    rows = [*noise["channels"]]
    if len(rows) > 1:
        rows.append({"name": "all", **{key: value for key, value in noise.items() if key != "channels"}})
    yield f"  {'':5}{'shot':<33}read"
    for line in rows:
        yield f"  {line['name']:<5}{spelled(line, 'shot'):<33}{spelled(line, 'read')}"
    for note in dict.fromkeys(line["note"] for line in rows if line["note"]):
        yield f"  {note}"
    prnu = noise.get("prnu") or 0.0
    if prnu:
        yield f"  the pixels' sensitivity varies by {100 * prnu:.1f} % (or bright areas hold texture)"


def spelled(line: dict[str, Any], name: str) -> str:
    """A coefficient with its interval, or its bounds: ``1.14e-04 (1.11e-04 to 1.15e-04)``."""
    value, (low, high) = line[name], line[f"{name}_interval"]
    if value is not None:
        return f"{value:.2e} ({low:.2e} to {high:.2e})"
    if not math.isfinite(high) or line["note"].startswith("not linear"):
        return "not told"
    return f"not told ({low:.1e} to {high:.1e})" if low > 0 else f"not told (below {high:.1e})"


def short(line: dict[str, Any], name: str) -> str:
    """A coefficient for a table, or its upper bound."""
    value, (_, high) = line[name], line[f"{name}_interval"]
    if value is not None:
        return f"{value:.1e}"
    return f"<{high:.0e}" if math.isfinite(high) and not line["note"].startswith("not linear") else "?"


def pooled_lines(pooled: dict[str, Any]) -> Iterator[str]:
    """The medians over all files, and the training that they suggest."""
    yield (
        f"{pooled['measured']} measured, {pooled['reliable']} with enough flat areas: median noise sigma "
        f"{pooled['sigma']:.1f} of 255, correlation of neighbouring pixels {pooled['correlation']:.2f}"
    )
    suggested = pooled["suggested"]
    yield f"suggested: method.pd_stride={suggested['pd_stride']}, mask ratio {suggested['mask_ratio']:.2f}"


def reason(row: dict[str, Any]) -> str:
    """The error of a file without its path."""
    return str(row["error"]).removeprefix(f"{row['path']}: ").removeprefix(f"{shown(row['path'])}: ")


def _kind(row: dict[str, Any]) -> str:
    raw = row["raw"]
    if raw:
        camera = f", {raw['camera']}" if raw["camera"] else ""
        iso = f", ISO {raw['iso']:.0f}" if raw["iso"] else ""
        return f"{raw['width']}x{raw['height']} raw, {_cfa(raw)}, {raw['bits']} bits{camera}{iso}"
    channels = f"{row['channels']} channel{'s' * (row['channels'] > 1)} of {row['bits']} bits"
    return f"{row['width']}x{row['height']}, {channels}, {row['format']}"


def _short_kind(row: dict[str, Any]) -> str:
    raw = row["raw"]
    if raw:
        iso = f" ISO {raw['iso']:.0f}" if raw["iso"] else ""
        return f"{raw['width']}x{raw['height']} raw {raw['cfa'] or raw['kind']} {raw['bits']} bits{iso}"
    return f"{row['width']}x{row['height']} {row['format']} {row['channels']}x{row['bits']} bits"


def _cfa(raw: dict[str, Any]) -> str:
    names = {"xtrans": "X-Trans", "mono": "no colour filter", "linear": "linear RGB", "other": "unknown mosaic"}
    return f"Bayer {raw['cfa']}" if raw["cfa"] else names.get(raw["kind"], raw["kind"])


def _sensor(raw: dict[str, Any]) -> Iterator[str]:
    black = sorted(set(raw["black"]))
    levels = " ".join(f"{value:g}" for value in (raw["black"] if len(black) > 1 else black))
    yield f"  black {levels}, white {raw['white']}, data clip at {raw['saturation']}"
    border = raw.get("border")
    if border:
        span = raw["white"] - sum(raw["black"]) / 4
        read = sum(border["read"]) / 4
        measured = " ".join(f"{value:.2f}" for value in border["black"])
        yield f"  masked border of {border['pixels']} pixels: black {measured}"
        yield (
            f"  its read noise {read:.2e} ({math.sqrt(read) * span:.2f} levels), rows vary by "
            f"{border['row'] * span:.2f} levels, columns by {border['column'] * span:.2f}"
        )
    if raw["noise_profile"]:
        shot, read = (sum(values) / len(values) for values in zip(*raw["noise_profile"], strict=True))
        yield f"  NoiseProfile in the file: shot {shot:.2e}, read {read:.2e}"


def _pair(correlation: dict[str, Any]) -> str:
    return f"{correlation['horizontal'][0]:.2f} across and {correlation['vertical'][0]:.2f} down"


def _between(correlation: dict[str, Any]) -> str:
    matrix = correlation["channels"]
    pairs = [matrix[i][j] for i in range(len(matrix)) for j in range(i)]
    return " ".join(f"{value:.2f}" for value in pairs) if pairs else "none"
