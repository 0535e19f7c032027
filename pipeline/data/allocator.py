"""One setting of glibc's allocator, for processes that make and drop arrays of a megabyte all day."""

from __future__ import annotations

import ctypes

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # M_ codes of malloc.h
_TRIM, _MMAP = 256 << 20, 32 << 20  # 32 MiB is the highest threshold that glibc takes


def keep_freed_memory() -> bool:
    """Let the allocator keep up to 256 MiB of freed memory instead of giving it back at once.

    By default each freed array of 128 KiB or more goes back to the system, and the next one is paid for in page
    faults: 40 % of the time of synthesising a 256x256 pair (docs/results/synthesis.md).

    Returns:
        Whether it was done; False where the C library is not glibc.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return False
    return bool(mallopt(_TRIM_THRESHOLD, _TRIM)) and bool(mallopt(_MMAP_THRESHOLD, _MMAP))
