"""Tags of raw files: what they tell is read, and nothing in them takes time, memory or an exception."""

import struct
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from raw.ciff import read_make_model
from raw.dng import write_dng
from raw.dng_tags import Tags, read_tags

SHARED_RAW = Path(__file__).parents[2] / "shared" / "data" / "raw"


def tiff(entries, *, order="<", more=b"", following=0):
    """A TIFF file of one directory; entries are (tag, type, count, four bytes)."""
    block = struct.pack(order + "H", len(entries))
    for tag, kind, count, value in entries:
        block += struct.pack(order + "HHI", tag, kind, count) + value
    magic = b"II*\0" if order == "<" else b"MM\0*"
    return magic + struct.pack(order + "I", 8) + block + struct.pack(order + "I", following) + more


def tags_of(tmp_path, data):
    path = tmp_path / "file.dng"
    path.write_bytes(data)
    return read_tags(path)


@pytest.fixture
def written(tmp_path):
    path = tmp_path / "whole.dng"
    write_dng(
        path,
        np.zeros((4, 4), np.uint16),
        black_levels=(1, 2, 3, 4),
        white_level=1023,
        noise=((1e-4, 1e-6), (2e-4, 2e-6), (3e-4, 3e-6)),
        make="Maker",
        model="Model",
    )
    return path


def test_tags_are_read(written):
    assert read_tags(written) == Tags(
        make="Maker",
        model="Model",
        noise_profile=((1e-4, 1e-6), (2e-4, 2e-6), (3e-4, 3e-6)),
        black_grid=((1, 2), (3, 4)),
    )


def test_big_endian_is_read_as_well(tmp_path):
    data = tiff([(271, 2, 4, b"Kod\0"), (272, 2, 3, b"DC\0\0")], order=">")
    tags = tags_of(tmp_path, data)
    assert (tags.make, tags.model) == ("Kod", "DC")


@pytest.mark.parametrize("order", [(2, 1, 0), (1, 2, 0), (0, 1, 2)])
def test_noise_pairs_are_told_apart_by_the_planes_they_belong_to(tmp_path, order):
    pairs = {0: (1e-4, 1e-6), 1: (2e-4, 2e-6), 2: (3e-4, 3e-6)}
    values = struct.pack("<6d", *(value for color in order for value in pairs[color]))
    entries = [(50710, 1, 3, bytes(order) + b"\0"), (51041, 12, 6, struct.pack("<I", 8 + 2 + 2 * 12 + 4))]
    assert tags_of(tmp_path, tiff(entries, more=values)).noise_profile == tuple(pairs.values())


@pytest.mark.parametrize(
    "data", [b"", b"II", b"II*\0", b"MM\0*\0\0\0", b"\x89PNG\r\n\x1a\n", b"no raw file at all" * 9]
)
def test_other_files_have_no_tags(tmp_path, data):
    assert tags_of(tmp_path, data) == Tags()


def test_a_missing_file_has_no_tags(tmp_path):
    assert read_tags(tmp_path / "none.dng") == Tags()


def test_a_directory_that_names_itself_ends(tmp_path):
    data = tiff([(271, 2, 4, b"Abc\0"), (330, 4, 1, struct.pack("<I", 8))], following=8)
    assert tags_of(tmp_path, data).make == "Abc"


def test_a_long_chain_of_directories_is_cut(tmp_path):
    count = 50_000
    data = b"II*\0" + struct.pack("<I", 8)
    for index in range(count):
        data += struct.pack("<HHHI4sI", 1, 262, 3, 1, b"\0\0\0\0", 8 + 18 * (index + 1))
    start = time.process_time()
    tags_of(tmp_path, data)
    assert time.process_time() - start < 0.1


@pytest.mark.parametrize("kind", [1, 2, 3, 4, 5, 12, 13, 0, 77, 65535])
@pytest.mark.parametrize("tag", [271, 330, 33422, 50714, 51041])
def test_a_claim_of_billions_of_values_takes_no_memory(tmp_path, tag, kind):
    data = tiff([(tag, kind, 0xFFFFFFFF, struct.pack("<I", 8))] * 20, more=b"\xff" * 100_000)
    path = tmp_path / "file.dng"
    path.write_bytes(data)
    tracemalloc.start()
    read_tags(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1_000_000


def test_text_is_one_printable_line(tmp_path):
    text = b"A\x1b[2J\nB\r\xe2\x80\xae" + b"x" * 300 + b"\0"
    data = tiff([(271, 2, len(text), struct.pack("<I", 8 + 2 + 12 + 4))], more=text)
    make = tags_of(tmp_path, data).make
    assert make.startswith("A [2J B")
    assert len(make) <= 64
    assert make.isprintable()


def test_every_cut_and_every_changed_byte_of_a_head_is_survived(written, tmp_path):
    whole = written.read_bytes()
    head = whole.index(b"Maker") + 200
    random = np.random.default_rng(0)
    for length in range(0, len(whole), 7):
        tags_of(tmp_path, whole[:length])
    for place in range(head):
        data = bytearray(whole)
        data[place] = int(random.integers(256))
        tags = tags_of(tmp_path, bytes(data))
        for shot, read in tags.noise_profile or ():
            assert 0 < shot <= 1
            assert 0 <= read <= 1


@pytest.mark.parametrize("name", ["canon_eos_d30.crw", "canon_s40_0101.crw"])
def test_a_crw_file_cut_or_changed_tells_of_its_camera_or_of_none(tmp_path, name):
    source = SHARED_RAW / name
    if not source.exists():
        pytest.skip(f"{name} is not part of the repository")
    whole = source.read_bytes()
    expected = ("Canon", "Canon EOS D30" if "d30" in name else "Canon PowerShot S40")
    assert read_make_model(source) == expected
    path = tmp_path / "file.crw"
    random = np.random.default_rng(0)
    for _ in range(100):
        data = bytearray(whole)
        # Its directories lie behind the pixels.
        for place in random.integers(len(data) - 40_000, len(data), 300):
            data[place] = int(random.integers(256))
        path.write_bytes(data[: int(random.integers(len(data) // 2, len(data) + 1))])
        make, model = read_make_model(path)
        assert (make + model).isprintable()
    path.write_bytes(whole[:100])
    assert read_make_model(path) == ("", "")


def test_a_crw_heap_that_holds_itself_ends(tmp_path):
    path = tmp_path / "file.crw"
    # One entry: a camera heap from the start of the file to its end, which is this heap again.
    body = struct.pack("<HHII", 1, 0x300A, 12 + 4, 0) + struct.pack("<I", 0)
    path.write_bytes(b"II" + struct.pack("<I", 14) + b"HEAPCCDR" + body)
    assert read_make_model(path) == ("", "")
