"""Models that come with the program: weights folders in the package, known everywhere by their names.

Each is a weights folder like any other (`models.weights`), with the card for people as README.md and a test picture
(`pipeline.registry.pair`) beside it; what its makers say for programs is under ``shipped`` in its card. It is never
written to: an installation may be read-only.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from pipeline.errors import UserError

FOLDER = Path(__file__).resolve().parent.parent / "shipped"
"""Holds a weights folder for each name that is shipped."""

PICTURES: Final = "default"
"""Name of the model for pictures (sRGB as stored)."""

RAWS: Final = "default-raw"
"""Name of the model for the mosaics of Bayer raw files."""

NAMES: Final = (PICTURES, RAWS)
"""References that mean a shipped model and nothing else; a folder of that name is reached as ``./default``."""


def is_shipped(name: str, folder: Path | None = None) -> bool:
    """Say whether this installation has the model; nothing is read."""
    return name in NAMES and ((folder or FOLDER) / name / "model.json").is_file()


def find_shipped(name: str, folder: Path | None = None) -> Path:
    """Return the weights folder of a shipped model.

    Args:
        name: one of `NAMES`.
        folder: holds the models; None for those of this installation.

    Raises:
        UserError: this installation has none of that name.
    """
    if is_shipped(name, folder):
        return (folder or FOLDER) / name
    have = [other for other in NAMES if is_shipped(other, folder)]
    hint = f"; a folder of that name is ./{name}" if Path(name).exists() else ""
    raise UserError(
        f"{name}: expected the model that comes with unveil, found none in this installation (it has "
        f"{' and '.join(have) or 'no model'}); give --model, or install unveil anew{hint}"
    )


def reference_of(weights: Path, folder: Path | None = None) -> str:
    """Return what names a weights folder in another process: of a shipped model its name, which is found there anew.

    The code of a process on another machine may lie elsewhere, and the shipped models with it.
    """
    return weights.name if weights.parent == (folder or FOLDER) and weights.name in NAMES else str(weights.absolute())


def list_shipped(folder: Path | None = None) -> list[dict[str, Any]]:
    """Return the shipped models of this installation: name, network, parameters, domain, hash and what its card says.

    Raises:
        UserError: one of them is damaged.
    """
    from models import describe
    from pipeline.inference.denoiser import NetworkDenoiser

    rows = []
    for name in NAMES:
        if not is_shipped(name, folder):
            continue
        model = NetworkDenoiser((folder or FOLDER) / name, "cpu")
        facts = model.card.get("shipped")
        rows.append(
            {
                "model": name,
                "shipped": True,
                "default": True,
                "domain": model.domain,
                "network": model.spec.kind,
                "parameters": describe(model.spec)["parameters"],
                "sha256": model.sha256,
                "facts": facts if isinstance(facts, dict) else {},
            }
        )
    return rows
