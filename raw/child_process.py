"""A process that does dangerous work for another: it may crash, hang or eat memory, and is replaced when it does.

The child starts at the first request, serves any number of them one at a time, and ends with its parent, however
that one ends: its standard input closes. It is neither forked from the parent (no locks, no threads of it) nor found
through the current folder: it imports the packages that the parent has.
"""

import contextlib
import fcntl
import os
import select
import signal
import subprocess
import sys
import threading
import time
import weakref
from pathlib import Path
from typing import Final

from raw.wire import OUT_OF_MEMORY, receive, send

START_SECONDS: Final = 120.0
"""A child that has not imported its libraries by then (a cold network disk is slow) will not do so at all."""

_TRANSFER_SECONDS = 10.0
_STARVED_FACTOR = 4.0
_CHUNK = 2**20
_START = "import sys; sys.path += sys.argv[2:]; import importlib; importlib.import_module(sys.argv[1]).main()"
_every: "weakref.WeakSet[ChildProcess]" = weakref.WeakSet()


class ChildError(Exception):
    """The child gave no answer, with the reason: it crashed on it, hung, or answered nonsense; it is gone."""


class ChildStartError(RuntimeError):
    """The child did not even start: something is wrong with the installation, not with the request."""


class ChildProcess:
    """One child, shared by all threads of this process; a fork of this process gets a child of its own.

    Args:
        module: what the child imports; its ``main()`` calls `raw.serving.serve`.
    """

    def __init__(self, module: str) -> None:
        self._module = module
        self._process: subprocess.Popen[bytes] | None = None
        self._errors = -1
        self._served = False
        self._lock = threading.Lock()
        _every.add(self)

    @property
    def pid(self) -> int | None:
        """Process id of the child that waits for the next request; None if there is none."""
        return self._process.pid if self._process else None

    def ask(self, request: object, *, seconds: float, limit: int) -> object:
        """Send a request and wait for its answer. A child that dies of it after others gets a second try, as a new one.

        Args:
            request: what `raw.wire.send` carries.
            seconds: the child is killed when it takes longer. Seconds in which other processes kept it from
                computing do not count, up to four times as many.
            limit: bytes that the arrays of the answer may take.

        Raises:
            ChildError: no answer.
            ChildStartError: the child cannot be started.
        """
        with self._lock:
            try:
                used = self._served
                try:
                    return self._exchange(request, seconds, limit)
                except _GoneError:
                    if not used:
                        raise
                # What killed it may have come before: harm done by an earlier file, or the system short of memory.
                self._kill()
                return self._exchange(request, seconds, limit)
            except (_GoneError, ValueError, TimeoutError) as error:
                raise ChildError(self._end(error, seconds)) from error
            except BaseException:
                # Interrupted between request and answer: the next one would get this one's answer.
                self._kill()
                raise

    def close(self) -> None:
        """End the child; the next request starts another one."""
        with self._lock:
            self._kill()

    def abandon(self) -> None:
        """Forget the child without ending it: this process is a fork and the child is not its own."""
        self._lock = threading.Lock()
        process, self._process, self._served = self._process, None, False
        if process is not None:
            process.returncode = 0  # not ours to wait for
            self._close_pipes(process)

    def _exchange(self, request: object, seconds: float, limit: int) -> object:
        process = self._started()
        line = _Line(process, time.monotonic() + seconds, seconds * 0.8 + _cpu_seconds(process.pid))
        with contextlib.suppress(BrokenPipeError):  # the reason is found on reading
            send(line.write, request)
        answer = receive(line.read, limit)
        if receive(line.read, 0) is False:
            self._served = True
        else:
            self._kill()
        return answer

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is not None and self._process.poll() is None:
            _drained(self._errors)
            return self._process
        self._kill()
        # Errors go through a pipe that never blocks the child: what does not fit is lost, and no disk fills up.
        self._errors, write_end = os.pipe()
        try:
            os.set_blocking(self._errors, False)
            os.set_blocking(write_end, False)
            self._process = process = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", _START, self._module, *_import_places()],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=write_end,
                bufsize=0,
                cwd=os.sep,
                env=os.environ | {"MALLOC_ARENA_MAX": "2"},  # an arena a thread would count against the memory cap
                start_new_session=True,  # Ctrl-C is for the parent
            )
        except OSError as error:
            os.close(self._errors)
            raise ChildStartError(f"the decoder process did not start: {error}") from error
        finally:
            os.close(write_end)
        assert process.stdout is not None
        with contextlib.suppress(OSError, AttributeError):  # fewer turns a picture, where the system grants it
            fcntl.fcntl(process.stdout, fcntl.F_SETPIPE_SZ, _CHUNK)
        try:
            if receive(_Line(process, time.monotonic() + START_SECONDS, None).read, 0) == "ready":
                return process
            reason = "an unknown greeting"
        except (_GoneError, ValueError, TimeoutError):
            reason = _last_line(_drained(self._errors)) or "no answer"
        self._kill()
        raise ChildStartError(f"the decoder process did not start: {reason}")

    def _end(self, error: Exception, seconds: float) -> str:
        """Kill the child and say what happened to it."""
        process = self._process
        assert process is not None
        if isinstance(error, _GoneError):
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(5)
        code = process.poll()
        said = _last_line(_drained(self._errors))
        self._kill()
        if isinstance(error, TimeoutError):
            return f"the decoder took longer than {seconds:g} s"
        if isinstance(error, ValueError):
            return f"the decoder answered nonsense ({error})"
        if "bad_alloc" in said:
            return OUT_OF_MEMORY
        told = f": {said}" if said else ""
        if code is None or code >= 0:
            return f"the decoder ended without an answer{told}"
        try:
            name = signal.Signals(-code).name
        except ValueError:
            name = f"signal {-code}"
        return f"the decoder crashed ({name}{told})"

    def _kill(self) -> None:
        process, self._process, self._served = self._process, None, False
        if process is not None:
            process.kill()
            self._close_pipes(process)
            process.wait()

    def _close_pipes(self, process: subprocess.Popen[bytes]) -> None:
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()
        os.close(self._errors)


class _GoneError(Exception):
    """The other end of the pipe is closed."""


class _Line:
    """The pipes of one request, with the moment when patience ends."""

    def __init__(self, process: subprocess.Popen[bytes], deadline: float, cpu: float | None) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._pid, self._in, self._out = process.pid, process.stdin.fileno(), process.stdout.fileno()
        self._deadline, self._cpu = deadline, cpu
        self._last = deadline + (_STARVED_FACTOR - 1) * (deadline - time.monotonic())

    def write(self, data: memoryview) -> None:
        while data:
            data = data[os.write(self._in, data) :]

    def read(self, data: memoryview) -> None:
        while data:
            self._wait()
            count = os.readv(self._out, [data[:_CHUNK]])
            if not count:
                raise _GoneError
            data = data[count:]
            # What has begun to arrive is not lost to a deadline in its middle.
            self._deadline = max(self._deadline, time.monotonic() + _TRANSFER_SECONDS)

    def _wait(self) -> None:
        poller = select.poll()
        poller.register(self._out, select.POLLIN)
        used = -1.0
        while not poller.poll(max(0.0, self._deadline - time.monotonic()) * 1000):
            before, used = used, _cpu_seconds(self._pid)
            starved = self._cpu is not None and before < used < self._cpu and time.monotonic() < self._last
            if not starved:
                raise TimeoutError
            self._deadline = time.monotonic() + 1.0


def _import_places() -> list[str]:
    """Folders that the child looks for modules in, after the standard library: ours first, then the parent's."""
    home = str(Path(__file__).resolve().parent.parent)
    return [home, *(place for place in sys.path if Path(place).is_absolute() and place != home)]


def _cpu_seconds(pid: int) -> float:
    """CPU time of a process; 0 where the system does not tell."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError):
        return 0.0


def _drained(pipe: int) -> bytes:
    try:
        return os.read(pipe, _CHUNK)  # all there is: a pipe holds less, and a reader never catches up with a loop
    except BlockingIOError:
        return b""


def _last_line(data: bytes) -> str:
    lines = data.decode("utf-8", "replace").strip().splitlines()
    return "".join(letter for letter in lines[-1] if letter.isprintable())[:120] if lines else ""


def _abandon_all() -> None:
    for child in list(_every):
        child.abandon()


os.register_at_fork(after_in_child=_abandon_all)
