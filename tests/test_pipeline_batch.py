"""What a batch leaves behind: skipping by the manifest, stopping at any moment, nothing half-written."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from pipeline.data.folders import scan
from pipeline.data.images import Image, read_image, write_image
from pipeline.errors import UserError
from pipeline.inference.files import denoise_files
from pipeline.inference.manifest import MANIFEST_NAME
from pipeline.inference.outputs import OutputOptions
from pipeline.inference.results import FileResult, FilesSummary

SKIP = OutputOptions(skip_existing=True)


def halve(image):
    return image * np.float32(0.5)


class Counting:
    """Halves pictures and counts them."""

    def __init__(self):
        self.calls = 0

    def __call__(self, image):
        self.calls += 1
        return halve(image)


def write(path: Path, seed: int = 0, shape=(6, 5, 3)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng([seed, *path.name.encode()]).integers(0, 255, shape, dtype=np.uint8)
    write_image(path, Image(pixels=pixels))


def folder(tmp_path: Path, count: int = 3) -> Path:
    for index in range(count):
        write(tmp_path / "in" / f"sub{index % 2}" / f"p{index}.png")
    return tmp_path / "in"


def tree(place: Path) -> dict[str, bytes]:
    files = (path for path in place.rglob("*") if path.is_file() and path.name != MANIFEST_NAME)
    return {path.relative_to(place).as_posix(): path.read_bytes() for path in files}


def statuses(summary: FilesSummary) -> list[str]:
    return [file.status for file in summary.files]


def rows(out: Path) -> list[dict]:
    return [json.loads(line) for line in (out / MANIFEST_NAME).read_text().splitlines()]


def test_what_is_up_to_date_is_skipped_and_what_is_not_is_made_again(tmp_path):
    source, out = folder(tmp_path), tmp_path / "out"
    first, second, third = (file.path for file in scan([source]))
    denoise_files(scan([source]), halve, out)
    want = tree(out)

    def again(changed: int, options=SKIP, denoiser=halve) -> None:
        summary = denoise_files(scan([source]), denoiser, out, options)
        assert (summary.count("ok"), summary.count("skipped")) == (changed, 3 - changed)
        assert f"{3 - changed} up to date" in summary.told("out")[0] or changed == 3
        assert tree(out).keys() == want.keys()

    again(0)
    os.utime(first, (1, 1))  # copied elsewhere and back: the same content at another time
    again(0)
    write(second, seed=1)
    again(1)
    again(0)
    outputs = [out / path.relative_to(source) for path in (first, second, third)]
    outputs[0].write_bytes(want[outputs[0].relative_to(out).as_posix()][:-1])  # a disk that lost something
    outputs[2].unlink()
    again(2)
    outputs[1].write_bytes(outputs[1].read_bytes()[:-9] + b"x" * 9)  # or changed it
    again(1)
    again(3, denoiser=Counting())
    again(3)


def test_what_was_not_made_here_is_left_alone_unless_overwrite_is_given(tmp_path):
    source, out = folder(tmp_path), tmp_path / "out"
    mine = out / "sub0" / "p0.png"
    mine.parent.mkdir(parents=True)
    mine.write_bytes(b"mine")
    summary = denoise_files(scan([source]), halve, out, SKIP)
    assert statuses(summary) == ["skipped", "ok", "ok"]
    assert "exists and was not made here; pass --overwrite" in str(summary.files[0].error)
    assert mine.read_bytes() == b"mine"
    assert "1 there already and left alone" in summary.told("out")[0]
    both = OutputOptions(skip_existing=True, overwrite=True)
    assert statuses(denoise_files(scan([source]), halve, out, both)) == ["ok", "skipped", "skipped"]
    assert statuses(denoise_files(scan([source]), halve, out, OutputOptions(overwrite=True))) == ["ok"] * 3
    # An output that became a link is nobody's.
    mine.unlink()
    mine.symlink_to(tmp_path / "elsewhere.png")
    assert statuses(denoise_files(scan([source]), halve, out, SKIP)) == ["skipped"] * 3
    assert not (tmp_path / "elsewhere.png").exists()


def test_the_manifest_says_what_made_what(tmp_path):
    source, out = folder(tmp_path, 2), tmp_path / "out"
    (source / "bad.png").write_text("no picture")
    denoise_files(scan([source]), halve, out, OutputOptions(format="tiff"))
    run, bad, good, _ = rows(out)
    assert run["made_with"]["options"]["format"] == "tiff"
    assert (bad["status"], bad["output"]) == ("failed", "bad.tif")
    assert "found text" in bad["reason"]
    assert (good["status"], good["output"], good["by"]) == ("ok", "sub0/p0.tif", run["run"])
    assert good["source"] == str(source / "sub0" / "p0.png")
    assert good["size"] == (source / "sub0" / "p0.png").stat().st_size
    assert good["output_size"] == (out / "sub0" / "p0.tif").stat().st_size
    assert good["seconds"] >= 0


def test_lines_that_are_none_are_passed_over_and_a_torn_one_is_ended(tmp_path):
    source, out = folder(tmp_path), tmp_path / "out"
    denoise_files(scan([source]), halve, out)
    manifest = out / MANIFEST_NAME
    whole = manifest.read_bytes()
    manifest.write_bytes(b'[]\n7\n\xff\xfe\n{"status":"ok","output":3}\n' + whole + b'{"source":"torn')
    assert statuses(denoise_files(scan([source]), halve, out, SKIP)) == ["skipped"] * 3
    write(scan([source])[0].path, seed=1)
    assert statuses(denoise_files(scan([source]), halve, out, SKIP)) == ["ok", "skipped", "skipped"]
    assert json.loads(manifest.read_bytes().splitlines()[-1])["status"] == "ok"
    assert statuses(denoise_files(scan([source]), halve, out, SKIP)) == ["skipped"] * 3


def test_a_manifest_that_leads_elsewhere_is_refused(tmp_path):
    source, out = folder(tmp_path), tmp_path / "out"
    out.mkdir()
    (tmp_path / "precious").write_bytes(b"precious")
    (out / MANIFEST_NAME).symlink_to(tmp_path / "precious")
    with pytest.raises(UserError, match="expected a file to write the manifest to, found: a link"):
        denoise_files(scan([source]), halve, out)
    (out / MANIFEST_NAME).unlink()
    os.mkfifo(out / MANIFEST_NAME)
    with pytest.raises(UserError, match="found a device or a pipe"):
        denoise_files(scan([source]), halve, out)
    assert (tmp_path / "precious").read_bytes() == b"precious"
    assert tree(out) == {}


def test_a_source_that_changes_while_it_is_read_is_not_vouched_for(tmp_path):
    source = folder(tmp_path, 1)

    def denoiser(image):
        write(source / "sub0" / "p0.png", seed=5, shape=(7, 7, 3))
        return image

    (result,) = denoise_files(scan([source]), denoiser, tmp_path / "out").files
    assert result.status == "failed"
    assert "found it changed while it was read" in str(result.error)
    assert tree(tmp_path / "out") == {}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_leaves_what_is_finished_and_nothing_else(tmp_path, number):
    source, out = folder(tmp_path, 5), tmp_path / "out"
    calls = 0

    def denoiser(image):
        nonlocal calls
        calls += 1
        if calls == 3:
            os.kill(os.getpid(), number)
            time.sleep(10)  # the signal arrives meanwhile
        return halve(image)

    before = signal.getsignal(number)
    summary = denoise_files(scan([source]), denoiser, out)
    assert signal.getsignal(number) is before
    assert (statuses(summary), summary.left, summary.exit_code()) == (["ok", "ok"], 3, 130)
    assert len(tree(out)) == 2
    assert (
        summary.told("out")[-1] == "stopped with 3 files to do; what is finished stays, --skip-existing does the rest"
    )
    assert statuses(denoise_files(scan([source]), denoiser, out, SKIP)) == ["skipped"] * 2 + ["ok"] * 3


@pytest.mark.parametrize("renamed", [False, True])
def test_a_stop_beside_the_rename_leaves_no_stranger(tmp_path, monkeypatch, renamed):
    source, out = folder(tmp_path, 2), tmp_path / "out"
    real = Path.replace

    def replace(self, target):
        if Path(target).name == "p1.png":
            if renamed:
                real(self, target)
            raise KeyboardInterrupt
        return real(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", replace)
        assert denoise_files(scan([source]), halve, out).stopped
    assert tree(out).keys() == ({"sub0/p0.png", "sub1/p1.png"} if renamed else {"sub0/p0.png"})
    last = denoise_files(scan([source]), halve, out, SKIP)
    assert statuses(last) == ["skipped", "skipped" if renamed else "ok"]
    assert [file.error for file in last.files] == [None, None]


# Slow enough to be hit; prints a line when the first file is done.
CHILD = """
import sys, time
from pathlib import Path
from pipeline.data.folders import scan
from pipeline.data.images import read_image, write_image
from pipeline.inference.files import convert_files
from pipeline.inference.manifest import kept
from pipeline.inference.outputs import OutputOptions, plan_outputs
from pipeline.inference.results import Made

source, out, pause = Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3])

def convert(path, output):
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_bytes(b"half")
    try:
        time.sleep(pause)
    except KeyboardInterrupt:
        print("asked", flush=True)
        time.sleep(60)
    write_image(output, read_image(path))
    return Made()

sources, options = scan([source]), OutputOptions(skip_existing=True)
outputs = plan_outputs(sources, out, options)
with kept(out, {}, outputs) as manifest:
    tell = lambda result: print(result.status, flush=True)
    convert_files(sources, outputs, convert, options, manifest=manifest, on_progress=tell)
"""


def start(source: Path, out: Path, pause: float) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", CHILD, str(source), str(out), str(pause)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parent.parent)


def test_a_kill_leaves_no_file_that_looks_finished_but_is_not(tmp_path):
    source, out = folder(tmp_path, 30), tmp_path / "out"
    generator = np.random.default_rng(0)
    seen = 0
    for _ in range(3):
        child = start(source, out, 0.01)
        assert child.stdout is not None
        child.stdout.readline()
        time.sleep(float(generator.uniform(0, 0.12)))
        child.kill()
        child.wait()
        child.stdout.close()
        for name in tree(out):
            if not Path(name).name.startswith("."):
                assert np.array_equal(read_image(out / name).pixels, read_image(source / name).pixels)
                seen += 1
    assert seen > 0
    (out / "sub0" / f".{'0' * 16}.tmp.png").write_bytes(b"left by a dead run")
    child = start(source, out, 0)
    said = child.communicate()[0].split()
    assert child.returncode == 0
    assert len(said) == 30
    assert {"ok", "skipped"} == set(said)
    assert tree(out).keys() == tree(source).keys()


def test_a_second_ctrl_c_ends_at_once(tmp_path):
    child = start(folder(tmp_path, 2), tmp_path / "out", 30)
    assert child.stdout is not None
    while not list((tmp_path / "out").rglob(".*.tmp.png")):
        time.sleep(0.02)
    child.send_signal(signal.SIGINT)
    assert child.stdout.readline() == "asked\n"
    began = time.monotonic()
    child.send_signal(signal.SIGINT)
    assert child.wait(20) == 130
    assert time.monotonic() - began < 5
    child.stdout.close()


def test_a_run_beside_another_leaves_its_temporaries_alone(tmp_path):
    child = start(folder(tmp_path, 1), tmp_path / "out", 30)
    while not (temporaries := list((tmp_path / "out").rglob(".*.tmp.png"))):
        time.sleep(0.02)
    write(tmp_path / "other" / "sub0" / "q.png")
    try:
        assert statuses(denoise_files(scan([tmp_path / "other"]), halve, tmp_path / "out")) == ["ok"]
        assert all(path.exists() for path in temporaries)
    finally:
        child.kill()
        child.communicate()
    assert statuses(denoise_files(scan([tmp_path / "other"]), halve, tmp_path / "out", SKIP)) == ["skipped"]
    assert not any(path.exists() for path in temporaries)


def test_many_failures_are_told_by_reason():
    def failed(index: int, reason: str) -> FileResult:
        return FileResult(source=f"in/{index}.png", output="o", status="failed", error=f"in/{index}.png: {reason}")

    few = FilesSummary(files=(failed(1, "expected a, found 1"), failed(2, "expected b")))
    assert few.told("out")[:2] == ["failed: in/1.png: expected a, found 1", "failed: in/2.png: expected b"]
    files = [failed(index, f"expected a picture, found {index} bytes") for index in range(40)]
    files += [failed(100 + index, f"reason {chr(97 + index)}") for index in range(12)]
    lines = FilesSummary(files=tuple(files), manifest="out/m.jsonl").told("out")
    assert lines[0] == "failed: 40 files: expected a picture, found 0 bytes (0.png, 1.png, 2.png and 37 more)"
    assert lines[1] == "failed: 1 file: reason a (100.png)"
    assert lines[10:] == [
        "failed: 3 files for 3 other reasons",
        "all of them, with reasons: out/m.jsonl",
        "0 written to out, 52 failed",
    ]
