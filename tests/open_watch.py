"""Watch which files are opened: by Python through an audit hook, and by any process of the machine through Linux."""

from __future__ import annotations

import ctypes
import os
import struct
import sys
from pathlib import Path

import pytest

_IN_OPEN, _IN_Q_OVERFLOW, _IN_ISDIR, _IN_NONBLOCK = 0x20, 0x4000, 0x40000000, 0o4000

HOOK = """
import os, sys

def _note(event, arguments, _log=os.open({log!r}, os.O_WRONLY | os.O_APPEND | os.O_CREAT), _tree=os.fsencode({tree!r})):
    if event == "open" and isinstance(arguments[0], (str, bytes, os.PathLike)):
        path = os.path.abspath(os.fsencode(arguments[0]))
        if path.startswith(_tree) and not os.path.isdir(path):
            os.write(_log, path + b"\\n")

sys.addaudithook(_note)
"""


def hook_environment(folder: Path, tree: Path) -> tuple[dict[str, str], Path]:
    """Return an environment in which every Python notes the files of ``tree`` that it opens, and where it does."""
    folder.mkdir()
    log = folder / "opened.txt"
    (folder / "sitecustomize.py").write_text(HOOK.format(log=str(log), tree=str(tree)))
    paths = [str(folder), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}, log


class KernelWatch:
    """Files of a tree that any process opened while this was there, decoders written in C included (Linux only)."""

    def __init__(self, tree: Path) -> None:
        if not sys.platform.startswith("linux"):
            pytest.skip("inotify is Linux only")
        libc = ctypes.CDLL(None, use_errno=True)
        self._queue = libc.inotify_init1(_IN_NONBLOCK)
        assert self._queue >= 0
        self._folders: dict[int, Path] = {}
        for folder in [tree, *(path for path in sorted(tree.rglob("*")) if path.is_dir())]:
            number = libc.inotify_add_watch(self._queue, os.fsencode(folder), _IN_OPEN)
            assert number >= 0, os.strerror(ctypes.get_errno())
            self._folders[number] = folder

    def opened(self) -> set[Path]:
        """Return what was opened so far, and end the watch."""
        found = set()
        while True:
            try:
                data = os.read(self._queue, 1 << 16)
            except BlockingIOError:
                break
            while data:
                number, mask, _, length = struct.unpack_from("iIII", data)
                name = data[16 : 16 + length].rstrip(b"\0")
                assert not mask & _IN_Q_OVERFLOW
                if not mask & _IN_ISDIR and name:
                    found.add(self._folders[number] / os.fsdecode(name))
                data = data[16 + length :]
        os.close(self._queue)
        return found
