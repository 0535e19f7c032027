"""What the user sees while waiting: everything goes to stderr, so that stdout stays one JSON object."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

if TYPE_CHECKING:
    from rich.progress import Progress

    from pipeline.inference.results import FileResult

console = Console(stderr=True, highlight=False)


def progress() -> Progress:
    """Build a progress bar with elapsed time and ETA on stderr; use it as a context manager.

    On anything but a terminal the bar stays silent, so that logs are not filled with redraws.
    """
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
    from rich.progress import TimeRemainingColumn as Remaining

    return Progress(
        # File names reach the description: without markup=False a name like "[red]" would restyle the line.
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left", style="dim"),
        Remaining(),
        console=console,
        disable=not console.is_terminal,
    )


@contextmanager
def file_progress(what: str, total: int) -> Iterator[Callable[[FileResult], None]]:
    """Show a bar over files; what it yields is called with each file that is done, and counts those that failed."""
    from pipeline.data.paths import shown

    failed = 0
    with progress() as bar:
        task = bar.add_task(what, total=total)

        def tell(result: FileResult) -> None:
            nonlocal failed
            failed += result.status == "failed"
            bad = f"  {failed} failed" if failed else ""
            bar.update(task, advance=1, description=f"{what} {shown(Path(result.source).name)}{bad}")

        yield tell


def tell_lines(lines: Iterable[str]) -> None:
    """Print lines on stderr as they are."""
    for line in lines:
        console.print(line, markup=False, soft_wrap=True)


def print_json(value: dict[str, Any]) -> None:
    """Write ``value`` as one line of strict JSON on stdout: ASCII only, NaN and infinities as null."""
    sys.stdout.write(json.dumps(strict(value), ensure_ascii=True, allow_nan=False) + "\n")
    sys.stdout.flush()


def strict(value: Any) -> Any:
    """Copy a JSON-like value with every non-finite number replaced by None and every other object by str."""
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(key): strict(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [strict(item) for item in value]
    if hasattr(value, "item"):  # numpy and torch scalars
        return strict(value.item())
    return str(value)
