"""The child's side of `raw.child_process`: answer requests until the parent is gone, within limits."""

import contextlib
import os
import resource
import select
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

from raw.wire import OUT_OF_MEMORY, receive, send

LEAVES_AT: Final = 128 * 2**20
"""A child that holds this much more than at its start is replaced: native libraries leak on damaged files."""

_THREAD_BYTES: Final = 16 * 2**20


class FileTask(NamedTuple):
    """What is to be done with one file."""

    name: str
    path: Path
    size: int
    """Bytes of the file; 0 if it is not there."""
    max_pixels: int
    memory: int | None
    """Bytes that may be taken; None leaves it to the task."""


def serve(answer: Callable[[object], object]) -> None:
    """Answer requests from standard input on standard output until it closes.

    Every request gets two messages: ``(True, value)`` or ``(False, reason)``, and whether this child wants to be
    replaced.

    Args:
        answer: given a request; what it returns is sent back, or else the text of what it raises.
    """
    requests, answers = os.dup(0), os.dup(1)
    with Path(os.devnull).open("rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    os.dup2(2, 1)  # what a library prints is no answer
    threading.Thread(target=_leave_with_parent, args=(requests,), daemon=True).start()
    for limit in (resource.RLIMIT_CORE, resource.RLIMIT_FSIZE):
        resource.setrlimit(limit, (0, 0))

    def read(data: memoryview) -> None:
        while data:
            count = os.readv(requests, [data])
            if not count:
                raise EOFError
            data = data[count:]

    def write(data: memoryview) -> None:
        while data:
            data = data[os.write(answers, data) :]

    send(write, "ready")
    at_start = _memory()[1]
    with contextlib.suppress(EOFError, BrokenPipeError):
        while True:
            request = receive(read, 0)
            result = _result(answer, request)
            limit_memory(None)
            send(write, result)
            del request, result
            send(write, _memory()[1] > at_start + LEAVES_AT)
    os._exit(0)  # without the clean-up of native libraries


def serve_files(answer: Callable[[FileTask], object]) -> None:
    """Answer what `raw.isolated.ask_about` asks until the parent is gone; see `serve`."""

    def answer_request(request: object) -> object:
        match request:
            case (str(name), str(path), int(max_pixels), float(seconds), None | int() as memory):
                limit_computing(seconds * 2 * (os.cpu_count() or 1))
                file = Path(os.fsdecode(path.encode("latin-1")))
                size = file.stat().st_size if file.is_file() else 0
                return answer(FileTask(name, file, size, max_pixels, memory))
        raise ValueError(f"expected a task, got {request!r}")

    serve(answer_request)


def usual_memory() -> int:
    """Bytes that any file may take: libraries have their tables, and start a thread a core."""
    return 256 * 2**20 + _THREAD_BYTES * (os.cpu_count() or 1)


def limit_memory(allowance: int | None) -> None:
    """Let this process take ``allowance`` bytes beyond what it has now; None lifts the limit.

    Address space is what Linux can limit; elsewhere nothing is limited.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    taken = _memory()[0]
    wanted = resource.RLIM_INFINITY if allowance is None or not taken else taken + allowance
    if hard != resource.RLIM_INFINITY:
        wanted = hard if wanted == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_AS, (wanted, hard))


def limit_computing(seconds: float) -> None:
    """Let this process compute for ``seconds`` more: the end of an endless loop whose parent was killed."""
    spent = resource.getrusage(resource.RUSAGE_SELF)
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    wanted = int(spent.ru_utime + spent.ru_stime + seconds) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard))


def _result(answer: Callable[[object], object], request: object) -> tuple[bool, object]:
    try:
        return True, answer(request)
    except MemoryError:
        return False, OUT_OF_MEMORY
    except Exception as error:  # noqa: BLE001 - the caller is in another process
        return False, " ".join(str(error).split()) or type(error).__name__


def _leave_with_parent(requests: int) -> None:
    # A native loop leaves no chance to find the end of the requests; this thread needs no turn of it.
    poller = select.poll()
    poller.register(requests, 0)
    poller.poll()
    os._exit(0)


def _memory() -> tuple[int, int]:
    """Address space and resident memory in bytes; zeros where the system does not tell."""
    try:
        pages = Path("/proc/self/statm").read_text().split()
    except OSError:
        return 0, 0
    size = os.sysconf("SC_PAGE_SIZE")
    return int(pages[0]) * size, int(pages[1]) * size
