"""``unveil develop``: camera raws in, 16-bit pictures or plain DNGs out, without denoising."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipeline.commands.options import Json


def develop(
    sources: Annotated[list[Path], typer.Argument(metavar="SRC...", help="Camera raw files, or folders of them.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where to write; the tree is mirrored there.")],
    format: Annotated[
        str, typer.Option(help="tiff or png (16 bits), jpeg; dng: the sensor's own numbers, uncompressed.")
    ] = "tiff",
    converter: Annotated[
        str, typer.Option(help="libraw, or unveil: Malvar's demosaicing, as synthetic noise is developed.")
    ] = "libraw",
    suffix: Annotated[str, typer.Option(help="Put between the stem and the suffix of every output.")] = "",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace outputs that exist.")] = False,
    json_output: Json = False,
) -> None:
    """Turn camera raws into the pictures that training and denoising see, or into DNGs that any converter reads.

    Exit code 0: all done, 3: some files failed, 1: all failed.
    """
    from pipeline.console import console, print_json, progress
    from pipeline.data.folders import scan
    from pipeline.data.paths import shown
    from pipeline.inference.develop import FORMATS, develop_files, only_raw
    from pipeline.inference.outputs import OutputOptions, plan_outputs

    files = only_raw(scan(sources, exclude=[out]))
    options = OutputOptions(suffix=suffix, format=format, overwrite=overwrite)
    outputs = plan_outputs(files, out, options, formats=FORMATS)
    with progress() as bar:
        task = bar.add_task("develop", total=len(files))
        summary = develop_files(
            files, outputs, options, converter=converter, on_progress=lambda _: bar.update(task, advance=1)
        )
    if json_output:
        print_json(summary.to_dict())
    else:
        for line in summary.told(shown(out)):
            console.print(line, markup=False, soft_wrap=True)
    raise typer.Exit(summary.exit_code())
