"""What `unveil denoise --dry-run` shows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.data.folders import SourceFile
    from pipeline.inference.outputs import OutputOptions


def run_dry(
    files: Sequence[SourceFile],
    outputs: Sequence[Path],
    out: Path,
    options: OutputOptions,
    made_with: Mapping[str, Any],
    seconds_of: Callable[[int], float] | None,
    *,
    json_output: bool,
) -> int:
    """Tell what a run would do, write nothing, and return the exit code that headers alone would lead to."""
    from pipeline.console import console, print_json
    from pipeline.data.paths import shown
    from pipeline.inference.dry_run import plan_files, spoken, summarised
    from pipeline.inference.manifest import Known

    planned = []
    for file in plan_files(files, outputs, options, Known(out, made_with), seconds_of):
        planned.append(file)
        if not json_output:
            console.print(file.told(), markup=False, soft_wrap=True, style="red" if file.action == "fail" else None)
    found = summarised(planned)
    if json_output:
        print_json(found)
    else:
        made = found["write"] + found["replace"]
        parts = [f"{made} would be written to {shown(out)}"]
        parts += [f"{found['replace']} of them replaced"] if found["replace"] else []
        parts += [f"{found['skip']} left alone"] if found["skip"] else []
        parts += [f"{found['fail']} would fail"] if found["fail"] else []
        time = f"; about {spoken(found['seconds'])} of denoising in this process" if found["seconds"] else ""
        console.print(f"{', '.join(parts)}{time}; nothing was written", markup=False, soft_wrap=True)
    return 0 if not found["fail"] else 1 if found["fail"] == len(planned) else 3
