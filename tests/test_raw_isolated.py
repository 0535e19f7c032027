"""Raw files decoded in a child process: the same results, and every fault of the child is one line about the file.

Faults are real ones: the child is stopped, killed by a signal in the middle of a request, starved of memory, or
replaced by one that lies.
"""

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

from raw.child_process import ChildError, ChildProcess, ChildStartError
from raw.files import RAW_SUFFIXES, read_raw, render_srgb
from raw.isolated import (
    DECODER,
    MIN_SECONDS,
    ask_about,
    patience,
    raw_size_isolated,
    read_raw_isolated,
    render_srgb_isolated,
)
from raw.wire import MAX_HEADER, receive, send, typed

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared" / "data" / "raw"


def write_dng(path, mosaic):
    """A minimal RGGB DNG."""
    ratios = tuple(part for value in (1, 0, 0, 0, 1, 0, 0, 0, 1) for part in (value, 1))
    tags = [
        (33421, 3, 2, (2, 2), True),
        (33422, 1, 4, b"\0\1\1\2", True),
        (50706, 1, 4, (1, 4, 0, 0), True),
        (50708, 2, None, "Made Camera", True),
        (50717, 4, 1, 1023, True),
        (50721, 10, 9, ratios, True),
    ]
    tifffile.imwrite(path, mosaic, photometric=32803, extratags=tags, metadata=None, rowsperstrip=mosaic.shape[0])


@pytest.fixture
def dng(tmp_path):
    mosaic = np.random.default_rng(0).integers(0, 1023, (480, 640), dtype=np.uint16)
    write_dng(tmp_path / "made.dng", mosaic)
    return tmp_path / "made.dng"


@pytest.fixture
def child(tmp_path, monkeypatch):
    """Make a child process from the body of its ``main``."""
    children = []

    def make(body):
        name = f"child_{len(children)}"
        lines = "import os, struct, sys\nfrom raw.serving import serve, serve_files\ndef main():\n"
        (tmp_path / f"{name}.py").write_text(lines + textwrap.indent(textwrap.dedent(body), "    "))
        monkeypatch.syspath_prepend(str(tmp_path))
        children.append(ChildProcess(name))
        return children[-1]

    yield make
    for one in children:
        one.close()


def gone(pid, seconds=10.0):
    """Whether a process that is no child of ours ends within the time."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return True
        if state == "Z":
            return True
        time.sleep(0.02)
    return False


def same(one, other):
    for field in fields(one):
        a, b = getattr(one, field.name), getattr(other, field.name)
        assert type(a) is type(b), field.name
        np.testing.assert_array_equal(a, b, err_msg=field.name)


def real_files():
    if not SHARED.is_dir():
        return []
    return sorted(path for path in SHARED.iterdir() if path.suffix in RAW_SUFFIXES)


def test_a_file_is_read_developed_and_measured_as_in_this_process(dng):
    for path in (dng, *real_files()):
        same(read_raw(path), read_raw_isolated(path))
        developed = render_srgb_isolated(path)
        np.testing.assert_array_equal(developed.pixels, render_srgb(path))
        assert developed.kind == read_raw(path).kind
        assert raw_size_isolated(path) == developed.pixels.shape[:2]


def test_one_child_serves_many_files_and_errors(dng, tmp_path):
    (tmp_path / "bad.dng").write_bytes(b"II*\0junk" * 10)
    read_raw_isolated(dng)
    pid = DECODER.pid
    for _ in range(3):
        raw_size_isolated(dng)
        with pytest.raises(ValueError, match="not a readable raw file"):
            read_raw_isolated(tmp_path / "bad.dng")
    assert DECODER.pid == pid


def test_messages_name_the_path_as_it_was_given(dng, monkeypatch):
    monkeypatch.chdir(dng.parent)
    assert raw_size_isolated(Path("made.dng")) == (480, 640)
    with pytest.raises(ValueError, match=r"^none\.dng: no such file$"):
        read_raw_isolated(Path("none.dng"))
    with pytest.raises(ValueError, match=r"^made\.dng: expected at most 1000 pixels, found 640x480"):
        read_raw_isolated(Path("made.dng"), max_pixels=1000)


def test_a_name_that_is_no_text_reaches_the_child(dng):
    odd = Path(os.fsdecode(os.fsencode(dng.parent) + b"/\xff\n.dng"))
    odd.write_bytes(dng.read_bytes())
    assert raw_size_isolated(odd) == (480, 640)


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGABRT, signal.SIGKILL])
@pytest.mark.parametrize("used", [False, True])
def test_a_file_that_crashes_the_decoder_is_told_and_the_next_one_is_read(dng, tmp_path, child, number, used):
    fragile = child(f"""
        from raw.decoder import _answer
        def answer(task):
            if task.path.name == "crash.dng":
                os.kill(os.getpid(), {int(number)})
            return _answer(task)
        serve_files(answer)
    """)
    crash = tmp_path / "crash.dng"
    crash.write_bytes(dng.read_bytes())

    def size(path):
        return ask_about(fragile, path, "size", max_pixels=10**6, timeout=None, memory=None)

    if used:
        assert size(dng) == (480, 640)
    with pytest.raises(ValueError, match=f"^{crash}: the decoder crashed .{number.name}.$"):
        size(crash)
    assert fragile.pid is None
    assert size(dng) == (480, 640)


def test_a_file_that_is_decoded_when_the_child_dies_of_something_else_is_read(dng):
    raw_size_isolated(dng)
    pid = DECODER.pid
    os.kill(pid, signal.SIGSTOP)  # so that the request is certainly not answered before the signal

    def strike():
        time.sleep(0.3)
        os.kill(pid, signal.SIGSEGV)
        os.kill(pid, signal.SIGCONT)

    thread = threading.Thread(target=strike)
    thread.start()
    assert render_srgb_isolated(dng).pixels.shape == (480, 640, 3)
    thread.join()
    assert DECODER.pid != pid


def test_a_child_killed_between_two_files_costs_nothing(dng):
    for wait in (0, 0.2):
        raw_size_isolated(dng)
        os.kill(DECODER.pid, signal.SIGKILL)
        time.sleep(wait)
        assert raw_size_isolated(dng) == (480, 640)


def test_a_hang_ends_at_the_limit(dng):
    raw_size_isolated(dng)
    pid = DECODER.pid
    os.kill(pid, signal.SIGSTOP)
    start = time.monotonic()
    with pytest.raises(ValueError, match=f"^{dng}: the decoder took longer than 0.5 s$"):
        render_srgb_isolated(dng, timeout=0.5)
    assert time.monotonic() - start < 5
    assert gone(pid)
    assert raw_size_isolated(dng) == (480, 640)


def test_an_endless_computation_ends_at_the_limit(child):
    busy = child("serve(lambda request: [None for _ in iter(int, 1)])")
    start = time.monotonic()
    with pytest.raises(ChildError, match="took longer than 1 s"):
        busy.ask("go", seconds=1, limit=0)
    # The time that others take does not count, up to four times.
    assert time.monotonic() - start < 6


def test_small_files_get_less_than_ten_seconds_and_large_ones_more():
    assert patience(0) == patience(4_000_000) == MIN_SECONDS < 10 - 1
    assert patience(100_000_000) == 200


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux limits address space")
def test_too_much_memory_is_refused_in_words(tmp_path):
    path = tmp_path / "made.dng"
    write_dng(path, np.zeros((2000, 3000), np.uint16))
    DECODER.close()  # a used one has memory to spare
    for reader in (read_raw_isolated, render_srgb_isolated):
        # Enough for the header, too little for 12 MB of pixels.
        assert raw_size_isolated(path, memory=2**23) == (2000, 3000)
        with pytest.raises(ValueError, match=f"^{path}: the decoder needed more memory"):
            reader(path, memory=2**23)
    assert render_srgb_isolated(path).pixels.shape == (2000, 3000, 3)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux limits address space")
def test_memory_of_a_file_is_limited_by_default(dng, child):
    greedy = child("""
        from raw.serving import limit_memory, usual_memory
        def answer(task):
            limit_memory(usual_memory())
            return len(bytearray(usual_memory() + 2**28))
        serve_files(answer)
    """)
    with pytest.raises(ValueError, match=f"^{dng}: the decoder needed more memory"):
        ask_about(greedy, dng, "read", max_pixels=1, timeout=None, memory=None)


def test_a_header_that_claims_what_the_file_cannot_hold_is_refused(tmp_path):
    path = tmp_path / "made.dng"
    write_dng(path, np.zeros((48, 64), np.uint16))
    data = bytearray(path.read_bytes())
    for tag, value in ((256, 16_000), (257, 16_000)):
        at = next(at for at in range(8, 400, 2) if int.from_bytes(data[at : at + 2], "little") == tag)
        data[at + 2 : at + 12] = (4).to_bytes(2, "little") + (1).to_bytes(4, "little") + value.to_bytes(4, "little")
    path.write_bytes(data)
    with pytest.raises(ValueError, match=f"^{path}: expected a whole file, found .* bytes for 16000x16000 pixels"):
        read_raw_isolated(path)


NONSENSE = {
    "no greeting of ours": "os.write(1, b'hello, this is another program')",
    "a huge header": "os.write(1, struct.pack('<I', 2**31))",
    "an unknown object": 'message(b\'{"code": "import os"}\')',
    "deep nesting": "message(b'[' * 100000)",
    "a huge array": 'message(b\'{"array": "uint16", "shape": [99999, 99999, 3]}\')',
    "an array of objects": 'message(b\'{"array": "object", "shape": [1]}\')',
    "a negative shape": 'message(b\'{"array": "uint16", "shape": [-1]}\')',
    "other fields": 'message(b\'{"tuple": [true, {"fields": {"mosaic": null}}]}\')',
    "no answer at all": "message(b'7')",
}


@pytest.mark.parametrize("lie", NONSENSE.values(), ids=NONSENSE)
def test_a_child_that_answers_nonsense_is_not_believed(dng, child, monkeypatch, lie):
    liar = child(f"""
        def message(text):
            os.write(1, struct.pack("<I", len(text)) + text)
        message(b'"ready"')
        {lie}
        message(b"false")
        sys.stdin.read()
    """)
    monkeypatch.setattr("raw.isolated.DECODER", liar)
    with pytest.raises(ValueError, match=f"^{dng}: the decoder answered nonsense"):
        read_raw_isolated(dng)


def test_what_the_dying_child_said_is_told(dng, child):
    crasher = child("""
        def answer(task):
            print("heap corruption at 0xdead", file=sys.stderr, flush=True)
            os.abort()
        serve_files(answer)
    """)
    with pytest.raises(ValueError, match=r"crashed \(SIGABRT: heap corruption at 0xdead\)$"):
        ask_about(crasher, dng, "read", max_pixels=1, timeout=None, memory=None)


def test_a_child_that_prints_without_end_neither_blocks_nor_fills_a_disk(child, tmp_path):
    noise = tmp_path / "noise"
    noisy = child(f"""
        def answer(request):
            for _ in range(20000):
                try:
                    os.write(2, b"data corrupted " * 100)
                except BlockingIOError:
                    pass
            with open({str(noise)!r}, "wb", buffering=0) as file:
                file.write(b"more")
        serve(answer)
    """)
    refused, reason = noisy.ask("go", seconds=30, limit=0)
    assert not refused
    assert "File too large" in reason
    assert noise.stat().st_size == 0


def test_a_child_that_prints_in_an_endless_loop_is_ended_as_any_other(child):
    noisy = child("""
        def answer(request):
            while True:
                try:
                    os.write(2, b"data corrupted " * 100)
                except BlockingIOError:
                    pass
        serve(answer)
    """)
    with pytest.raises(ChildError, match=r"took longer than 0\.5 s$"):
        noisy.ask("go", seconds=0.5, limit=0)


def test_a_child_that_cannot_start_says_why(child):
    with pytest.raises(ChildStartError, match="no library today"):
        child("raise OSError('no library today')").ask("go", seconds=1, limit=0)


def test_a_child_that_has_grown_is_replaced(child):
    leaky = child("""
        kept = []
        serve(lambda request: kept.append(bytearray(os.urandom(1)) * 2**28) or len(kept))
    """)
    assert leaky.ask("go", seconds=30, limit=0) == (True, 1)
    assert leaky.pid is None
    assert leaky.ask("go", seconds=30, limit=0) == (True, 1)


def test_threads_share_one_child_and_get_their_own_answers(child):
    echo = child("serve(lambda request: request)")
    answers = {}

    def ask(number):
        for turn in range(20):
            answers[number, turn] = echo.ask((number, turn), seconds=30, limit=0)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == {key: (True, key) for key in answers}
    assert len(answers) == 160


def run(code, *arguments, cwd=ROOT, **options):
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)],
        cwd=cwd,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        **options,
    )


@pytest.mark.parametrize("busy", [False, True])
def test_the_child_dies_with_a_parent_that_is_killed(dng, tmp_path, busy):
    (tmp_path / "endless.py").write_text(
        "import time\nfrom raw.serving import serve\n"
        "def main(): serve(lambda request: time.sleep(1000) if request else 'idle')\n"
    )
    code = """
        import sys, threading, time
        sys.path.append(sys.argv[1])
        from raw.child_process import ChildProcess
        child = ChildProcess("endless")
        child.ask(0, seconds=60, limit=0)
        print(child.pid, flush=True)
        child.ask(int(sys.argv[2]), seconds=1000, limit=0)
        time.sleep(1000)
    """
    parent = run(code, tmp_path, int(busy))
    pid = int(parent.stdout.readline())
    time.sleep(0.2)
    assert not gone(pid, 0.1)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    assert gone(pid)


def test_a_forked_copy_gets_a_child_of_its_own(dng):
    code = """
        import os, sys
        from pathlib import Path
        from raw.isolated import DECODER, raw_size_isolated
        path = Path(sys.argv[1])
        raw_size_isolated(path)
        first = DECODER.pid
        copy = os.fork()
        if not copy:
            assert DECODER.pid is None
            size = raw_size_isolated(path)
            print("copy", size, DECODER.pid != first, flush=True)
            os._exit(0)
        assert os.waitpid(copy, 0)[1] == 0
        print("parent", raw_size_isolated(path), DECODER.pid == first, flush=True)
    """
    process = run(code, dng)
    out, _ = process.communicate(timeout=60)
    assert out.splitlines() == ["copy (480, 640) True", "parent (480, 640) True"]


def test_the_child_finds_our_packages_whatever_the_current_folder_holds(dng, tmp_path):
    trap = tmp_path / "trap"
    trap.mkdir()
    for name in ("raw", "numpy", "rawpy", "json"):
        (trap / f"{name}.py").write_text(f"raise SystemExit('{name} from the current folder')\n")
    code = textwrap.dedent("""
        import os, pathlib, sys
        os.chdir(sys.argv[2])
        sys.path = [place for place in sys.path if place]
        from raw.isolated import raw_size_isolated
        sys.path.insert(0, '')
        print(raw_size_isolated(pathlib.Path(sys.argv[1])))
    """)
    out, _ = run(code, dng, trap).communicate(timeout=60)
    assert out == "(480, 640)\n"


def test_the_child_is_small_and_loads_no_torch(dng):
    raw_size_isolated(dng)
    loaded = Path(f"/proc/{DECODER.pid}/maps")
    if not loaded.exists():
        pytest.skip("needs /proc")
    assert "libraw" in loaded.read_text()
    assert "libtorch" not in loaded.read_text()


@dataclass(frozen=True, kw_only=True, slots=True)
class Fields:
    pixels: NDArray[np.uint16]
    levels: tuple[float, ...]
    pair: tuple[int, str] | None
    maker: str
    profile: bytes | None = None


def through(value, limit=2**20):
    buffer = bytearray()
    send(buffer.extend, value)
    view = memoryview(bytes(buffer))

    def read(target):
        nonlocal view
        target[:], view = view[: len(target)], view[len(target) :]

    received = receive(read, limit)
    assert not view
    return received


def test_a_message_carries_every_field_of_a_dataclass():
    fields_ = Fields(
        pixels=np.arange(6, dtype=np.uint16).reshape(2, 3)[:, ::-1],
        levels=(1.5, float("inf")),
        pair=(3, "ä\udcff"),
        maker="",
        profile=bytes(range(256)),
    )
    same(typed(through(fields_), Fields), fields_)
    big_endian = np.arange(4, dtype=">u2")
    np.testing.assert_array_equal(through(big_endian), big_endian)
    assert through(np.empty((0, 3), np.float32)).shape == (0, 3)
    assert through(np.int64(3)) == 3


@pytest.mark.parametrize(
    "wrong",
    [
        {"pixels": np.zeros(3, np.uint8)},
        {"pixels": None},
        {"levels": (1.0, "2")},
        {"levels": [1.0]},
        {"pair": (1, "a", 2)},
        {"pair": (True, "a")},
        {"maker": None},
        {"profile": "text"},
        {"extra": 1},
    ],
)
def test_a_field_of_another_type_is_not_believed(wrong):
    right = {"pixels": np.zeros((1, 1), np.uint16), "levels": (), "pair": None, "maker": "", "profile": None}
    typed(right, Fields)
    with pytest.raises(ValueError, match="Fields"):
        typed(right | wrong, Fields)


def test_a_message_has_bounds():
    with pytest.raises(ValueError, match="more than 15 bytes"):
        through(np.zeros(2), limit=15)
    with pytest.raises(TypeError, match="carries no set"):
        send(lambda _: None, {1})
    with pytest.raises(TypeError, match="carries no ndarray"):
        send(lambda _: None, np.zeros(2, object))
    assert MAX_HEADER < 2**27
