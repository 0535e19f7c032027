"""What `unveil denoise --dry-run` shows."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipeline.inference.dry_run import Planned


def run_dry(files: Iterable[Planned], out: Path, *, json_output: bool) -> int:
    """Tell what a run would do, write nothing, and return the exit code that headers alone would lead to.

    Args:
        files: of `pipeline.inference.dry_run.plan_files`; each is told as it comes.
        out: the output folder.
        json_output: one object on stdout instead of lines.
    """
    from pipeline.console import console, print_json
    from pipeline.data.paths import shown
    from pipeline.inference.dry_run import spoken, summarised

    planned = []
    for file in files:
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
