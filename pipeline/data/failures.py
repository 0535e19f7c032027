"""One file of many that failed: a line about it, or the end of the run if no other could succeed either."""

from __future__ import annotations

import errno
from pathlib import Path

from pipeline.data.paths import shown
from pipeline.errors import RunError, UserError

_DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


def failure_line(error: Exception, source: Path, target: Path) -> str:
    """Return one line about ``error`` that begins with the path of ``source``.

    Args:
        error: what making a file from ``source`` raised; a `UserError` names its path itself.
        source: what was read.
        target: what was, or would have been, written.

    Raises:
        RunError: the disk is full or read-only.
    """
    if isinstance(error, OSError) and error.errno in _DISK_FULL:
        raise RunError(f"{shown(target)}: cannot write: {error.strerror}; the rest was not tried") from error
    line = " ".join(str(error).split()) or type(error).__name__
    return line if isinstance(error, UserError) else f"{shown(source)}: {line}"
