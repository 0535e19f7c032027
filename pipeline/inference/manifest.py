"""The manifest of an output folder: which source, model and options made which file, one line of JSON each.

A line is written before its output gets its name. So whenever the process is killed, a file under its own name is whole
and in the manifest; a line without its file, or with another one, is a file that is still to be made.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import fcntl
import hashlib
import json
import os
import re
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import pipeline
from pipeline.data.folders import file_hash
from pipeline.data.paths import shown
from pipeline.errors import UserError

MANIFEST_NAME: Final = "unveil-denoise.jsonl"
"""Name of the manifest in the output folder."""

TEMPORARY: Final = re.compile(r"\.[0-9a-f]{16}\.tmp(\.[A-Za-z0-9]+)?")
"""Names under which outputs are written before they get their own."""

Standing = Literal["absent", "current", "outdated", "foreign"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Identity:
    """Which content a file had when it was read."""

    size: int
    """Bytes."""

    mtime_ns: int
    """Time of the last change."""

    sha256: str
    """Hash of the content."""


def identify(path: Path) -> Identity:
    """Read a file and say which content it has.

    Raises:
        OSError: it cannot be read.
    """
    status = path.stat()
    return Identity(size=status.st_size, mtime_ns=status.st_mtime_ns, sha256=file_hash(path))


def same_status(path: Path, identity: Identity) -> bool:
    """Say whether a file has the size and the time of ``identity``, without reading it."""
    with contextlib.suppress(OSError):
        status = path.stat()
        return (status.st_size, status.st_mtime_ns) == (identity.size, identity.mtime_ns)
    return False


@dataclass(frozen=True, slots=True)
class _Entry:
    by: str
    source: Identity
    size: int
    sha256: str


class Known:
    """Knows what was made in an output folder; reads only."""

    def __init__(self, out: Path, made_with: Mapping[str, Any]) -> None:
        """Read the manifest, if there is one.

        Args:
            out: the output folder.
            made_with: JSON values that decide the bytes of an output besides its source.

        Raises:
            UserError: it cannot be read.
        """
        self.path = out / MANIFEST_NAME
        self._out = out
        # Another version may well make the same bytes; a model or an option does not.
        self.by = hashlib.sha256(json.dumps(made_with, sort_keys=True).encode()).hexdigest()[:16]
        try:
            self._entries = _entries(self.path) if self.path.is_file() else {}
        except OSError as error:
            raise UserError(f"{shown(self.path)}: expected a readable manifest, found: {error.strerror}") from error

    def standing(self, source: Path, output: Path) -> Standing:
        """Say what an output is to this run.

        Returns:
            ``absent``: nothing there; ``current``: this source, model and options made it and it is whole;
            ``outdated``: made here, but from other content, by another model or other options, or changed since;
            ``foreign``: not made here as far as is known.
        """
        if not os.path.lexists(output):
            return "absent"
        entry = self._entries.get(self._name(output))
        if entry is None or output.is_symlink() or not output.is_file():
            return "foreign"
        current = entry.by == self.by and _unchanged(source, entry.source) and _whole(output, entry)
        return "current" if current else "outdated"

    def _name(self, output: Path) -> str:
        return output.relative_to(self._out).as_posix()


class Manifest(Known):
    """Writes down what is being made, too; use `kept`."""

    def __init__(self, out: Path, handle: int, made_with: Mapping[str, Any]) -> None:
        super().__init__(out, made_with)
        self._handle = handle
        self._facts = {**made_with, "unveil": pipeline.__version__}
        self._begun = False

    def made(self, source: Path, output: Path, identity: Identity, staged: Identity, told: Mapping[str, Any]) -> None:
        """Write down that an output is whole and about to get its name.

        Args:
            source: what was read.
            output: the name it gets.
            identity: of the source.
            staged: of the output.
            told: what else there is to say: seconds, note and so on.
        """
        self._entries[self._name(output)] = _Entry(self.by, identity, staged.size, staged.sha256)
        values = dataclasses.asdict(identity)
        self._write(
            {
                "source": str(source),
                "output": self._name(output),
                "status": "ok",
                "by": self.by,
                **values,
                "output_size": staged.size,
                "output_sha256": staged.sha256,
                **told,
            }
        )

    def failed(self, source: Path, output: Path, reason: str) -> None:
        """Write down that an output could not be made."""
        name = self._name(output)
        self._write({"source": str(source), "output": name, "status": "failed", "by": self.by, "reason": reason})

    def remove_temporaries(self, outputs: Iterable[Path]) -> None:
        """Remove what was left half-written beside outputs, unless another run writes to the folder too."""
        if _lock(self._handle):
            _remove_temporaries(outputs)

    def _write(self, entry: Mapping[str, Any]) -> None:
        if not self._begun:
            self._begun = True
            # A line that was torn by a power cut ends here.
            start = b"" if os.fstat(self._handle).st_size == 0 or _ends_a_line(self.path) else b"\n"
            self._append(start + _line({"run": self.by, "made_with": self._facts}))
        self._append(_line(entry))

    def _append(self, data: bytes) -> None:
        # One call for a whole line: others may append to the same file.
        while data:
            data = data[os.write(self._handle, data) :]


@contextlib.contextmanager
def kept(out: Path, made_with: Mapping[str, Any], outputs: Sequence[Path]) -> Iterator[Manifest]:
    """Open the manifest of a folder, which is created; what dead runs left half-written beside outputs is removed.

    Args:
        out: the output folder.
        made_with: see `Known`.
        outputs: that will be written.

    Raises:
        UserError: the folder or the manifest cannot be written to.
    """
    path = out / MANIFEST_NAME
    try:
        out.mkdir(parents=True, exist_ok=True)
        # Not through a link: the folder may come from anywhere, and a link lead anywhere.
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)
    except OSError as error:
        found = "a link" if error.errno == errno.ELOOP else error.strerror
        raise UserError(f"{shown(path)}: expected a file to write the manifest to, found: {found}") from error
    try:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise UserError(f"{shown(path)}: expected a file to write the manifest to, found a device or a pipe")
        manifest = Manifest(out, handle, made_with)
        manifest.remove_temporaries(outputs)
        try:
            yield manifest
        finally:
            # Of workers that died, or were stopped.
            manifest.remove_temporaries(outputs)
        with contextlib.suppress(OSError):
            os.fsync(handle)
    finally:
        empty = os.fstat(handle).st_size == 0
        os.close(handle)
        if empty:
            path.unlink(missing_ok=True)


def _remove_temporaries(outputs: Iterable[Path]) -> None:
    # A process of a dead run that still writes one of them fails at its end, and makes no output of it.
    for folder in {output.parent for output in outputs}:
        with contextlib.suppress(OSError), os.scandir(folder) as entries:
            for entry in entries:
                if TEMPORARY.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
                    Path(entry.path).unlink(missing_ok=True)


def _lock(handle: int) -> bool:
    """Share the manifest with other runs, and say whether there is none. The system forgets a dead process's lock."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        alone = True
    except BlockingIOError:
        alone = False
    except OSError:
        return False  # a file system without locks
    with contextlib.suppress(OSError):
        fcntl.flock(handle, fcntl.LOCK_SH | (fcntl.LOCK_NB if alone else 0))
    return alone


def _entries(path: Path) -> dict[str, _Entry]:
    """The last entry of each output; lines that are none are passed over."""
    found: dict[str, _Entry] = {}
    with path.open("rb") as lines:
        for line in lines:
            with contextlib.suppress(ValueError, KeyError, TypeError, AttributeError):
                value = json.loads(line)
                if value.get("status") == "ok":
                    identity = Identity(
                        size=int(value["size"]), mtime_ns=int(value["mtime_ns"]), sha256=str(value["sha256"])
                    )
                    found[str(value["output"])] = _Entry(
                        str(value["by"]), identity, int(value["output_size"]), str(value["output_sha256"])
                    )
    return found


def _unchanged(source: Path, known: Identity) -> bool:
    if same_status(source, known):
        return True
    with contextlib.suppress(OSError):
        # Copied or touched, perhaps: then only the time is another.
        return source.stat().st_size == known.size and file_hash(source) == known.sha256
    return False


def _whole(output: Path, entry: _Entry) -> bool:
    with contextlib.suppress(OSError):
        return output.stat().st_size == entry.size and file_hash(output) == entry.sha256
    return False


def _ends_a_line(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"


def _line(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, ensure_ascii=True, separators=(",", ":")).encode() + b"\n"
