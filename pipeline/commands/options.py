"""Options that commands share, so that they are spelt and explained alike."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Overrides = Annotated[
    list[str] | None, typer.Argument(help="dotted.key=value, such as training.steps=500.", show_default=False)
]
Preset = Annotated[str | None, typer.Option("--preset", help="A shipped preset; train takes photos by default.")]
Config = Annotated[Path | None, typer.Option("--config", help="TOML file with the configuration.")]
Data = Annotated[str | None, typer.Option("--data", help="Folder of images: noisy, or clean with a noise recipe.")]
Model = Annotated[str, typer.Option(metavar="REF", help="Weights folder, run folder, models:/name@alias or default.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:1.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]
Attention = Annotated[
    str | None,
    typer.Option(
        help="Attention masks of a masked transformer: seeded, as in training; ensemble, the mean of several draws; "
        "off. By default what the model is meant for.",
        show_default=False,
    ),
]
Draws = Annotated[
    int | None,
    typer.Option(help="Random draws to average; K draws take K times as long.", show_default=False),
]
Offset = Annotated[
    str | None,
    typer.Option(
        help="What to do about a visible offset in brightness or colour: keep, or level, which brings them to those "
        "of the noisy picture.",
        show_default=False,
    ),
]
