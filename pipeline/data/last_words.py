"""What a process was decoding when it died: a file that kills its reader twice is quarantined like any other bad file.

Ray restarts a dead synthesizer and repeats its call, so without this an image that crashes a decoder would kill one
process after another for ever.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path

_DEATHS = 2
"""A first death may have had another reason, such as a killed node."""


class LastWords:
    """Keeps a small file that says which image is being decoded, and how often each one was the last."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._deaths: dict[str, int] = {}

    def read(self) -> dict[str, str]:
        """Return the images that have killed a process twice, with the reason; count one that did just now."""
        with contextlib.suppress(OSError, ValueError, TypeError, AttributeError):
            told = json.loads(self._path.read_text("utf-8"))
            self._deaths = {str(file): int(count) for file, count in told["deaths"].items()}
            if told["decoding"]:
                self._deaths[told["decoding"]] = self._deaths.get(told["decoding"], 0) + 1
            self._write("")
        return {
            file: f"{file}: ended the process that decoded it, {count} times; the file is left out"
            for file, count in self._deaths.items()
            if count >= _DEATHS
        }

    @contextlib.contextmanager
    def decoding(self, file: str) -> Iterator[None]:
        """Leave word while the block runs."""
        self._write(file)
        try:
            yield
        finally:
            self._deaths.pop(file, None)
            self._write("")

    def _write(self, decoding: str) -> None:
        with contextlib.suppress(OSError):
            if not decoding and not self._deaths:
                self._path.unlink(missing_ok=True)
                return
            temporary = self._path.with_name(f"{self._path.name}.{os.getpid()}")
            temporary.write_text(json.dumps({"decoding": decoding, "deaths": self._deaths}), "utf-8")
            temporary.replace(self._path)
