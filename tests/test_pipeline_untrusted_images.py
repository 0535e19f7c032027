"""Folders that somebody else filled, through the command: each bad entry one line, nothing waits, nothing escapes."""

import io
import json
import os
import socket
import struct
import threading
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image as Pillow
from typer import Typer
from typer.testing import CliRunner

from pipeline.commands import denoise as command
from pipeline.data.images import read_header, read_image
from pipeline.errors import UserError
from pipeline.inference import denoiser as denoisers
from pipeline.inference.manifest import MANIFEST_NAME


@pytest.fixture(autouse=True)
def fake_model(monkeypatch):
    monkeypatch.setattr(denoisers, "load_denoiser", lambda *_: lambda image: image)


def invoke(*args):
    app = Typer()
    app.command()(command.denoise)
    outcome = []
    thread = threading.Thread(
        target=lambda: outcome.append(CliRunner().invoke(app, [str(arg) for arg in args])), daemon=True
    )
    thread.start()
    thread.join(60)
    assert outcome, "the command waits"
    return outcome[0]


def denoise(source, out, *options):
    result = invoke(source, "--model", "m", "--out", out, "--json", *options)
    assert result.exception is None or isinstance(result.exception, SystemExit | UserError), result.exception
    return result.exit_code, json.loads(result.stdout) if result.stdout else None, result.stderr


def picture(path, size=(6, 5)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Pillow.fromarray(np.random.default_rng(0).integers(0, 255, (*size, 3), dtype=np.uint8)).save(path)
    return path


STRANGE = (
    b"two\nlines.png",
    b"\x1b[31mred\x1b[0m.png",
    b"not-\xff\xfe-utf8.png",
    "right\u202egnp.png".encode(),
    b" sp .png",
)


def test_strange_names_are_shown_safely_and_kept_to_the_byte(tmp_path):
    folder = picture(tmp_path / "in" / "plain.png").parent
    for name in STRANGE:
        (folder / os.fsdecode(name)).write_bytes((folder / "plain.png").read_bytes())
        (folder / os.fsdecode(b"bad" + name)).write_text("no picture")
    code, answer, told = denoise(folder, tmp_path / "out")
    assert code == 3
    assert (answer["ok"], answer["failed"]) == (6, 5)
    assert {entry.name for entry in os.scandir(os.fsencode(tmp_path / "out"))} == {
        *STRANGE,
        b"plain.png",
        MANIFEST_NAME.encode(),
    }
    assert all(line.isprintable() for line in told.splitlines())
    for file in answer["files"]:
        assert file["error"] is None or file["error"].isprintable()
    assert r"bad\x1b[31mred" in told.replace("\n", "")


def test_pipes_sockets_devices_and_folders_with_the_name_of_a_picture_are_refused_at_once(tmp_path):
    folder = picture(tmp_path / "in" / "good.png").parent
    for suffix in ("png", "tif", "dng", "exr", "jpg"):
        os.mkfifo(folder / f"pipe.{suffix}")
    (folder / "folder.png").mkdir()
    here = Path.cwd()
    server = socket.socket(socket.AF_UNIX)
    try:
        os.chdir(folder)  # the path of a socket may not be long
        server.bind("socket.png")
    finally:
        os.chdir(here)
    code, answer, _ = denoise(folder, tmp_path / "out")
    server.close()
    assert code == 3
    assert (answer["ok"], answer["failed"]) == (1, 6)
    errors = [file["error"] for file in answer["files"] if file["status"] == "failed"]
    assert all("expected an image file, found a device or a pipe" in error for error in errors)
    for device in ("/dev/zero", "/dev/stdin"):
        if Path(device).exists():
            assert denoise(device, tmp_path / "out")[0] == 1


def test_links_that_lead_out_of_the_folder_are_left_out_and_told(tmp_path, caplog):
    folder = picture(tmp_path / "in" / "good.png").parent
    picture(tmp_path / "secret" / "a.png")
    (folder / "out.png").symlink_to(tmp_path / "secret" / "a.png")
    (folder / "deeper").symlink_to(tmp_path / "secret")
    (folder / "null.png").symlink_to("/dev/zero")
    (folder / "loop.png").symlink_to(folder / "loop.png")
    code, answer, _ = denoise(folder, tmp_path / "out")
    assert (code, answer["ok"]) == (0, 1)
    assert "skipped 3 broken links or links that lead out of their folder" in caplog.text
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["good.png", MANIFEST_NAME]


def test_an_output_folder_that_links_elsewhere_is_not_written_through(tmp_path):
    folder = picture(tmp_path / "in" / "sub" / "a.png").parent.parent
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "sub").symlink_to(tmp_path / "elsewhere")
    code, answer, _ = denoise(folder, tmp_path / "out")
    assert (code, answer) != (0, 1)
    assert list((tmp_path / "elsewhere").iterdir()) == []
    (tmp_path / "out" / "sub").unlink()
    (tmp_path / "out" / "sub").mkdir()
    victim = tmp_path / "elsewhere" / "victim.png"
    victim.write_text("precious")
    (tmp_path / "out" / "sub" / "a.png").symlink_to(victim)
    denoise(folder, tmp_path / "out", "--overwrite")
    assert victim.read_text() == "precious"


def png(width, height, *, body=b"", chunks=()):
    data = b"\x89PNG\r\n\x1a\n"
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    for kind, part in ((b"IHDR", header), *chunks, (b"IDAT", zlib.compress(body)), (b"IEND", b"")):
        data += struct.pack(">I", len(part)) + kind + part + struct.pack(">I", zlib.crc32(kind + part))
    return data


def saved(kind, **options):
    file = io.BytesIO()
    Pillow.fromarray(np.zeros((6, 5, 3), np.uint8)).save(file, kind, **options)
    return bytearray(file.getvalue())


def no_pixels():
    jpeg, bmp, tiff = saved("JPEG"), saved("BMP"), saved("TIFF")
    at = jpeg.find(b"\xff\xc0")
    jpeg[at + 5 : at + 9] = bytes(4)
    bmp[18:26] = bytes(8)
    (start,) = struct.unpack_from("<I", tiff, 4)
    for tag in (256, 257):
        entry = next(at for at in range(start + 2, len(tiff), 12) if tiff[at : at + 2] == struct.pack("<H", tag))
        tiff[entry + 8 : entry + 12] = bytes(4)
    return {"a.png": png(0, 0), "b.png": png(5, 0), "a.jpg": jpeg, "a.bmp": bmp, "a.tif": tiff}


@pytest.mark.parametrize("name", ["a.png", "b.png", "a.jpg", "a.bmp", "a.tif"])
def test_pictures_without_pixels_are_refused(tmp_path, name):
    (tmp_path / name).write_bytes(no_pixels()[name])
    for reader in (read_header, read_image):
        with pytest.raises(UserError, match=f"{name}: expected .*, found"):
            reader(tmp_path / name)


def test_what_libraries_print_and_log_about_damaged_files_does_not_reach_the_user(tmp_path, capfd, caplog):
    junk = [(b"iCCP", b"x\0\0" + zlib.compress(b"junk")), (b"eXIf", b"zz"), (b"gAMA", bytes(4)), (b"tRNS", b"\0")]
    rows = b"".join(b"\0" + bytes(15) for _ in range(6))
    (tmp_path / "a.png").write_bytes(png(5, 6, body=rows, chunks=junk))
    (tmp_path / "b.png").write_bytes(png(5, 6, body=rows, chunks=junk)[:-30])
    tiff = saved("TIFF", compression="tiff_lzw")
    (tmp_path / "a.tif").write_bytes(tiff[:60] + bytes(20) + tiff[80:])
    jpeg = saved("JPEG")
    (tmp_path / "a.jpg").write_bytes(jpeg[: len(jpeg) * 3 // 4])
    (tmp_path / "b.jpg").write_bytes(jpeg[:-40] + bytes(range(38)) + jpeg[-2:])
    code, answer, _ = denoise(tmp_path, tmp_path / "out")
    assert code == 3
    assert answer["ok"] >= 1
    found = capfd.readouterr()
    assert "libpng" not in found.err + found.out
    assert "warning" not in (found.err + found.out).lower()
    assert found.out == caplog.text == ""


def test_pages_that_share_their_bytes_are_no_stack(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        for _ in range(50):
            writer.write(np.zeros((40, 50), np.uint8), contiguous=False, metadata=None)
    with tifffile.TiffFile(tmp_path / "a.tif", mode="r+") as tiff:
        offset = tiff.pages[0].tags[273].value[0]
        for page in tiff.pages:
            page.tags[256].overwrite(200)
            page.tags[257].overwrite(400)
            page.tags[278].overwrite(400)
            page.tags[279].overwrite(80_000)
            page.tags[273].overwrite(offset)
    code, answer, _ = denoise(tmp_path, tmp_path / "out")
    assert code == 1
    assert "expected 50 whole pages, found" in answer["files"][0]["error"]


def test_an_absurd_size_is_refused_by_the_header_of_every_format(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "a.png").write_bytes(png(2**31 - 1, 2**31 - 1))
    jpeg, bmp = saved("JPEG"), saved("BMP")
    at = jpeg.find(b"\xff\xc0")
    jpeg[at + 5 : at + 9] = b"\xff" * 4
    bmp[18:26] = struct.pack("<ii", 2**31 - 1, 2**31 - 1)
    (folder / "a.jpg").write_bytes(jpeg)
    (folder / "a.bmp").write_bytes(bmp)
    tifffile.imwrite(folder / "a.tif", np.zeros((4, 4), np.uint8), metadata=None)
    with tifffile.TiffFile(folder / "a.tif", mode="r+") as tiff:
        tiff.pages[0].tags[256].overwrite(2**31 - 1)
        tiff.pages[0].tags[257].overwrite(2**31 - 1)
    code, answer, _ = denoise(folder, tmp_path / "out")
    assert (code, answer["failed"]) == (1, 4)
    for file in answer["files"]:
        assert "expected at most 300000000 pixels, found" in file["error"] or "bytes for" in file["error"], file
    assert [path.name for path in (tmp_path / "out").iterdir()] == [MANIFEST_NAME]
