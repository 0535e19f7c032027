"""Models that were pulled, by the digest of their files, below the state folder; and what a reference last meant.

A digest names the same bytes for ever, so nothing here grows stale but the references, which are asked for again
whenever the registry answers.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipeline.errors import UserError
from pipeline.home import home

_DIGEST = re.compile(r"[0-9a-f]{64}")
_REFERENCES = "references.json"


def cached(digest: str) -> Path | None:
    """Return the folder of a model that was pulled before; the caller checks its files."""
    folder = _place(digest)
    return folder if folder.is_dir() else None


@contextmanager
def staging() -> Iterator[Path]:
    """Yield a new empty folder to download into, gone at the end unless `keep` has moved it."""
    folder = _folder() / f".{os.getpid()}-{secrets.token_hex(6)}"
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def keep(digest: str, folder: Path) -> Path:
    """Move a checked download to its place and return it; another process may have been faster."""
    target = _place(digest)
    with contextlib.suppress(OSError):
        folder.rename(target)
    return target


def drop(digest: str) -> None:
    """Forget a model whose files are no longer what they were."""
    shutil.rmtree(_place(digest), ignore_errors=True)


def remember(registry: str, reference: str, facts: dict[str, Any]) -> None:
    """Note what a reference means now."""
    from filelock import FileLock

    path = _folder() / _REFERENCES
    with FileLock(path.with_suffix(".lock")):
        known = _references()
        if known.get(registry, {}).get(reference, {}).get("digest") == facts["digest"]:
            return
        known.setdefault(registry, {})[reference] = {**facts, "time": time.time()}
        temporary = path.with_name(f".{_REFERENCES}.{os.getpid()}")
        temporary.write_text(json.dumps(known, indent=1), "utf-8")
        temporary.replace(path)


def recall(registry: str, reference: str) -> dict[str, Any] | None:
    """Return what a reference meant when the registry last answered; None if it was never asked for."""
    found = _references().get(registry, {}).get(reference)
    return found if isinstance(found, dict) and isinstance(found.get("digest"), str) else None


def _references() -> dict[str, Any]:
    with contextlib.suppress(OSError, ValueError):
        known = json.loads((_folder() / _REFERENCES).read_text("utf-8"))
        if isinstance(known, dict) and all(isinstance(value, dict) for value in known.values()):
            return known
    return {}


def _place(digest: str) -> Path:
    if not _DIGEST.fullmatch(digest):
        raise UserError(f"registry: expected a sha256 of 64 hexadecimal digits, found {digest[:80]!a}")
    return _folder() / digest


def _folder() -> Path:
    folder = home() / "models"
    folder.mkdir(exist_ok=True)
    return folder
