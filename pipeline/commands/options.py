"""Options that commands share, so that they are spelt and explained alike."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Overrides = Annotated[
    list[str] | None, typer.Argument(help="dotted.key=value, such as training.steps=500.", show_default=False)
]
Preset = Annotated[str | None, typer.Option("--preset", help="A shipped preset, such as quick, camera or masked_swin.")]
Config = Annotated[Path | None, typer.Option("--config", help="TOML file with the configuration.")]
Data = Annotated[str | None, typer.Option("--data", help="Folder of images: noisy, or clean with a noise recipe.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]
