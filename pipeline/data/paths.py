"""Paths in messages and on disk: safe to print on one line, and never outside the folder they belong to."""

from __future__ import annotations

import os
from pathlib import Path

from pipeline.errors import UserError


def shown(path: str | os.PathLike[str]) -> str:
    """Return a path for a one-line message.

    A name with control characters, undecodable bytes or direction marks is quoted and escaped: it could
    otherwise break the line, colour the terminal or look like another name.
    """
    text = os.fspath(path)
    return text if text.isprintable() and text == text.strip() and text else ascii(text)


def confined(folder: Path, relative: Path) -> Path:
    """Join ``folder`` and ``relative`` and make sure that the result lies inside ``folder``.

    Raises:
        UserError: the joined path leaves the folder, through ``..``, an absolute path or a symbolic link.
    """
    target = folder / relative
    if not target.parent.resolve().is_relative_to(folder.resolve()) or target.name in {"", ".", ".."}:
        raise UserError(f"{shown(target)}: expected a path inside {shown(folder)}, found one outside it")
    return target
