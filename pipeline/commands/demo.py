"""`unveil demo`: the main job from end to end, in a few minutes, on images that are there or on the user's."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.commands.options import Json, Overrides
from pipeline.console import console, print_json

if TYPE_CHECKING:
    from pipeline.demo import DemoResult


def demo(
    overrides: Overrides = None,
    out: Annotated[Path, typer.Option("--out", help="Results go to a new numbered folder in here.")] = Path(
        "unveil-demo"
    ),
    data: Annotated[
        Path | None,
        typer.Option("--data", help="Your own noisy photos, in place of images that ship with scikit-image."),
    ] = None,
    json_output: Json = False,
) -> None:
    """Train on real image content, register, denoise, compare and report, in about five minutes."""
    from pipeline.commands.train import run_with_progress
    from pipeline.demo import as_json, run_demo

    def say(text: str) -> None:
        console.print(text, markup=False, soft_wrap=True)

    result = run_demo(out, data, overrides or [], train=run_with_progress, say=say)
    if json_output:
        print_json(as_json(result))
        return
    _tell(result)


def _tell(result: DemoResult) -> None:
    from rich.table import Table

    metrics = [name for name in result.table[0] if name != "name"]
    table = Table("", *metrics, title=f"{result.steps} steps, {result.seconds:.0f} s in all")
    for row in result.table:
        values = [f"{row[name]:.4f}" if name.startswith("ssim") else f"{row[name]:.2f}" for name in metrics]
        table.add_row(row["name"], *values, style="bold" if row["name"] == "unveil" else None)
    console.print(table)
    if metrics == ["noise_sigma_255"]:
        console.print(
            "estimated noise that is left; a blur has little too, so look at the report", style="dim", markup=False
        )
    console.print(f"denoised  {result.denoised}", markup=False, soft_wrap=True)
    console.print(f"report    {result.report}", markup=False, soft_wrap=True)
    console.print("\nnext:", markup=False)
    for command in result.next:
        console.print(f"  {command}", markup=False, soft_wrap=True)
