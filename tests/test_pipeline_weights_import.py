"""`unveil models import`: what the official code saved computes the same here, and no file does harm."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import pickle
import signal
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import Tensor

from models import MaskedSwin, load
from pipeline.errors import UserError
from pipeline.weights_import import Wish, import_weights
from raw.child_process import ChildProcess
from raw.wire import receive, send
from tests.swinir_numpy import random_weights, swinir

ORACLES = Path(__file__).parent / "oracles"
SMALL = {"channels": 3, "dim": 12, "depths": (2,), "heads": 2, "window": 4, "hidden": 24}

Run = Callable[..., tuple[int, dict[str, Any] | None, str]]


@pytest.fixture(scope="module")
def reader() -> Iterator[ChildProcess]:
    """A child for all files: starting one takes a second."""
    child = ChildProcess("pipeline.weights_reader")
    yield child
    child.close()


def oracle(name: str) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Official state dict with its buffers, and all other arrays."""
    with np.load(ORACLES / f"masked_swin_{name}.npz") as file:
        arrays = {key: torch.from_numpy(file[key]) for key in file.files}
    state = {key.removeprefix("sd/"): value for key, value in arrays.items() if key.startswith("sd/")}
    return state, arrays


def small(**more: Any) -> dict[str, Tensor]:
    weights = random_weights(**({"kernel": 1, "conv": "3conv"} | SMALL | more))
    return {name: torch.from_numpy(value) for name, value in weights.items()}


def wrapped(how: str, state: dict[str, Tensor]) -> object:
    zeros = {name: torch.zeros_like(value) for name, value in state.items()}
    return {
        "module": {f"module.{name}": value for name, value in state.items()},
        "params": {"params": state},
        "ema": {"params": zeros, "params_ema": state},
        "lightning": {
            "state_dict": {f"net.{name}": value for name, value in state.items()} | {"loss.weight": torch.ones(3)},
            "epoch": 7,
            "optimizer_states": [{"state": {0: torch.zeros(5)}}],
        },
    }[how]


def equal_the_official_outputs(weights: Path, arrays: dict[str, Tensor]) -> None:
    loaded = load(weights)
    assert (loaded.inference.mode, loaded.inference.attention) == ("direct", "seeded")
    assert isinstance(loaded.network, MaskedSwin)
    for case in ("a", "b", "c"):
        masks = [arrays[f"am_{case}_{block}"] == 0 for block in range(4)]
        with torch.no_grad():
            output = loaded.network(arrays[f"x_{case}"], attention_masks=masks)
        torch.testing.assert_close(output, arrays[f"y_{case}"], rtol=0, atol=1e-5)


def test_the_command_gives_the_outputs_of_what_the_official_code_saved(unveil: Run, tmp_path: Path) -> None:
    state, arrays = oracle("attnmask")
    file, out = tmp_path / "official.pth", tmp_path / "deep" / "weights"
    torch.save(state, file)
    code, value, stderr = unveil("models", "import", file, "--out", out, "--json")
    assert code == 0
    assert value is not None
    # Weights drawn at random denoise nothing, and the note says so.
    assert value["notes"] == value["card"]["notes"]
    assert "or of the other --layout" in " ".join(value["notes"])
    assert stderr == ""
    assert value["card"]["source"].pop("sha256") == hashlib.sha256(file.read_bytes()).hexdigest()
    assert value["card"]["source"] == {
        "file": "official.pth",
        "layout": "masked-training",
        "taken": "top",
        "dtypes": ["float32"],
    }
    assert value["card"]["imported"] == str(np.datetime64("today"))
    assert value["card"]["validated"] is None
    assert set(value["card"]["trial"]) == {"psnr_noisy", "psnr_denoised"}
    assert json.loads((out / "model.json").read_text())["card"]["imported"] == value["card"]["imported"]
    equal_the_official_outputs(out, arrays)
    code, _, stderr = unveil("models", "import", file, "--out", out)
    assert code == 2
    assert "expected a folder that does not exist yet" in stderr


@pytest.mark.parametrize(
    ("how", "taken"),
    [("module", "top"), ("params", "params"), ("ema", "params_ema"), ("lightning", "state_dict.net")],
)
def test_wrappers_are_seen_through(how: str, taken: str, reader: ChildProcess, tmp_path: Path) -> None:
    state, arrays = oracle("attnmask")
    torch.save(wrapped(how, state), tmp_path / "official.ckpt")
    done = import_weights(tmp_path / "official.ckpt", tmp_path / "weights", reader=reader)
    assert done.card["source"]["taken"] == taken
    equal_the_official_outputs(tmp_path / "weights", arrays)


def test_without_masks_the_outputs_are_the_official_ones_too(reader: ChildProcess, tmp_path: Path) -> None:
    state, arrays = oracle("nomask")
    torch.save(state, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    safetensors.torch.save_file(state, tmp_path / "new.safetensors")
    for name in ("old.pth", "new.safetensors"):
        out = tmp_path / f"{name}.out"
        import_weights(tmp_path / name, out, attention_ratio=0, reader=reader)
        loaded = load(out)
        assert loaded.inference.attention == "off"
        with torch.no_grad():
            torch.testing.assert_close(loaded.network(arrays["x_c"]), arrays["y_c"], rtol=0, atol=1e-5)


@pytest.mark.parametrize("conv", ["1conv", "3conv"])
def test_a_denoiser_of_swinir_computes_its_equations(conv: str, reader: ChildProcess, tmp_path: Path) -> None:
    weights = random_weights(**(SMALL | {"kernel": 3, "conv": conv, "depths": (2, 1)}))
    torch.save({"params": {name: torch.from_numpy(value) for name, value in weights.items()}}, tmp_path / "swinir.pth")
    done = import_weights(tmp_path / "swinir.pth", tmp_path / "w", reader=reader)
    assert done.card["source"]["layout"] == "swinir"
    assert (done.spec.skips, done.spec.embed_kernel, done.spec.group_conv) == (True, 3, conv)
    loaded = load(tmp_path / "w")
    assert (loaded.inference.attention, loaded.network.stochastic) == ("off", False)
    image = np.random.default_rng(2).random((3, 9, 14))
    with torch.no_grad():
        output = loaded.network(torch.from_numpy(image).float()[None])[0].numpy()
    np.testing.assert_allclose(output, swinir(weights, image, window=4, skips=True), rtol=0, atol=1e-5)


def test_the_user_may_choose_and_is_told_what_was_chosen(unveil: Run, reader: ChildProcess, tmp_path: Path) -> None:
    state = small()
    double = {name: value * 2 for name, value in state.items()}
    torch.save({"params": state, "params_ema": double}, tmp_path / "both.pth")
    code, _, stderr = unveil("models", "import", tmp_path / "both.pth", "--out", tmp_path / "ema")
    assert code == 0
    assert "network  masked-training, " in stderr
    assert "note     taken: params_ema; the file also holds params (--which)" in stderr
    import_weights(tmp_path / "both.pth", tmp_path / "plain", which="params", reader=reader)
    twice, once = (load(tmp_path / name).network.state_dict() for name in ("ema", "plain"))
    assert all(torch.equal(once[name] * 2, value) for name, value in twice.items())
    with pytest.raises(UserError, match="expected --which to be one of params, params_ema, found 'netE'"):
        import_weights(tmp_path / "both.pth", tmp_path / "x", which="netE", reader=reader)
    torch.save({"one": state, "two": double}, tmp_path / "unclear.pth")
    with pytest.raises(UserError, match="expected one set of weights, found 2; choose with --which: one, two"):
        import_weights(tmp_path / "unclear.pth", tmp_path / "x", reader=reader)
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_floats_become_float32_and_are_mentioned(
    dtype: torch.dtype, reader: ChildProcess, tmp_path: Path
) -> None:
    state = {name: value.to(dtype) for name, value in small().items()}
    torch.save(state, tmp_path / "half.pth")
    done = import_weights(tmp_path / "half.pth", tmp_path / "w", reader=reader)
    assert f"converted to float32 from {str(dtype).removeprefix('torch.')}" in done.notes
    weights = load(tmp_path / "w").network.state_dict()
    assert torch.equal(weights["conv_first.weight"], state["conv_first.weight"].float())


class Bomb:
    """A pickle that would create a file when it is loaded."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.target),)


def bomb(file: Path) -> None:
    torch.save(small() | {"more": Bomb(file.with_name("exploded"))}, file)


def legacy_bomb(file: Path) -> None:
    torch.save({"params": Bomb(file.with_name("exploded"))}, file, _use_new_zipfile_serialization=False)


def plain_pickle(file: Path) -> None:
    file.write_bytes(pickle.dumps(Bomb(file.with_name("exploded")), protocol=2))


def whole_program(file: Path) -> None:
    torch.save(small() | {"options": argparse.Namespace(dim=60)}, file)


def truncated(file: Path) -> None:
    torch.save(small(), file)
    file.write_bytes(file.read_bytes()[:-3000])


def truncated_legacy(file: Path) -> None:
    torch.save(small(), file, _use_new_zipfile_serialization=False)
    file.write_bytes(file.read_bytes()[:-3000])


def truncated_safetensors(file: Path) -> None:
    file.write_bytes(safetensors.torch.save(small())[:-3000])


def huge_safetensors_header(file: Path) -> None:
    file.write_bytes(struct.pack("<Q", 1 << 60) + b"{}")


def huge_safetensors_tensor(file: Path) -> None:
    size = 1 << 50
    header = {"conv_first.weight": {"dtype": "F32", "shape": [size], "data_offsets": [0, 4 * size]}}
    data = json.dumps(header).encode()
    file.write_bytes(struct.pack("<Q", len(data)) + data)


def endless_view(file: Path) -> None:
    # One number of storage that announces four terabytes.
    torch.save(small() | {"conv_first.weight": torch.zeros(1).expand(1 << 20, 1 << 20)}, file)


def compressed(file: Path) -> None:
    """A hundred megabytes of zeros in a hundred kilobytes."""
    torch.save(small(), file)
    with zipfile.ZipFile(file) as archive:
        names = archive.namelist()
        data = {name: archive.read(name) for name in names}
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names:
            with archive.open(name, "w") as entry:
                for _ in range(8 if name.endswith("/data/0") else 0):
                    entry.write(bytes(1 << 24))
                entry.write(data[name])


def announced(file: Path) -> None:
    """A directory that says one entry is larger than the file."""
    torch.save(small(), file)
    data = bytearray(file.read_bytes())
    place = data.rindex(b"PK\x01\x02")
    struct.pack_into("<II", data, place + 20, 1 << 30, 1 << 30)
    file.write_bytes(data)


def script(file: Path) -> None:
    torch.jit.script(torch.nn.Linear(2, 2)).save(str(file))


def text(file: Path) -> None:
    file.write_text("these are no weights\n" * 100)


def empty(file: Path) -> None:
    file.touch()


def another_zip(file: Path) -> None:
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("readme.txt", "no weights")


def not_finite(file: Path) -> None:
    state = small()
    state["norm.bias"][3] = float("nan")
    torch.save(state, file)


def integers(file: Path) -> None:
    torch.save(small() | {"norm.bias": torch.zeros(12, dtype=torch.int32)}, file)


def enlarges(file: Path) -> None:
    torch.save({"params": small() | {"upsample.0.weight": torch.zeros(48, 12, 3, 3)}}, file)


def another_network(file: Path) -> None:
    torch.save({"conv1.weight": torch.zeros(3, 3)}, file)


def wrong_shape(file: Path) -> None:
    torch.save(small() | {"conv_last.bias": torch.zeros(4)}, file)


def folder(file: Path) -> None:
    file.mkdir()


def nothing(file: Path) -> None:
    pass


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (bomb, "found the Python object posix.mkdir, which is never run"),
        (legacy_bomb, "found the Python object posix.mkdir, which is never run"),
        (plain_pickle, "found the Python object posix.mkdir|another kind of pickle"),
        (whole_program, "found the Python object argparse.Namespace, which is never run"),
        (truncated, "found one that was cut short or damaged"),
        (truncated_legacy, "found a damaged file or another kind of pickle"),
        (truncated_safetensors, "expected a whole safetensors file, found a damaged one"),
        (huge_safetensors_header, "expected a whole safetensors file, found a damaged one"),
        (huge_safetensors_tensor, "expected a whole safetensors file, found a damaged one"),
        (endless_view, "some that announce 43980"),
        (compressed, "expected an archive as torch.save writes it, found compressed entries"),
        (announced, "found entries that announce more bytes than it has"),
        (script, "expected weights, found a TorchScript program"),
        (text, "found a file of another kind"),
        (empty, "found a file of another kind"),
        (another_zip, "expected weights written by torch.save, found another zip archive"),
        (not_finite, "norm.bias holds values that are not finite"),
        (integers, "norm.bias: expected floating point, found int32"),
        (enlarges, "upsample.0.weight belongs to a SwinIR that enlarges"),
        (another_network, "found no 'conv_first.weight' in it"),
        (wrong_shape, r"conv_last.bias must have shape \(3,\), got \(4,\)"),
        (folder, "expected a weights file, found a folder"),
        (nothing, "expected a weights file, found nothing there"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")
def test_a_file_that_is_no_such_weights_is_refused_in_one_line(
    make: Callable[[Path], None], reason: str, reader: ChildProcess, tmp_path: Path
) -> None:
    file = tmp_path / "weights.pth"
    make(file)
    with pytest.raises(UserError, match=reason) as caught:
        import_weights(file, tmp_path / "out", reader=reader)
    assert str(caught.value).startswith(f"{file}: ")
    assert str(caught.value).isprintable()
    assert sorted(path.name for path in tmp_path.iterdir()) == ([] if make is nothing else ["weights.pth"])


@pytest.mark.parametrize("make", [bomb, truncated, text, nothing])
def test_the_command_ends_with_that_line_and_exit_code_2(
    make: Callable[[Path], None], unveil: Run, tmp_path: Path
) -> None:
    file = tmp_path / "weights.pth"
    make(file)
    code, value, stderr = unveil("models", "import", file, "--out", tmp_path / "out", "--json")
    lines = stderr.strip().splitlines()
    assert code == 2
    assert len(lines) == 1, stderr
    assert lines[0].startswith(f"unveil: {file}: ")
    assert value == {"error": lines[0].removeprefix("unveil: "), "exit_code": 2}
    assert sorted(path.name for path in tmp_path.iterdir()) == ([] if make is nothing else ["weights.pth"])


def test_a_bomb_explodes_where_pickle_is_loaded(tmp_path: Path) -> None:
    """Or the tests above would prove nothing."""
    plain_pickle(tmp_path / "weights.pth")
    pickle.loads((tmp_path / "weights.pth").read_bytes())  # noqa: S301
    assert (tmp_path / "exploded").is_dir()


def test_a_child_that_hangs_is_given_up_and_one_that_died_is_replaced(reader: ChildProcess, tmp_path: Path) -> None:
    file = tmp_path / "weights.pth"
    torch.save(small(), file)
    import_weights(file, tmp_path / "one", reader=reader)
    assert reader.pid is not None
    os.kill(reader.pid, signal.SIGSTOP)
    with pytest.raises(UserError, match=r"weights\.pth: .*the reader took longer than 0\.5 s"):
        import_weights(file, tmp_path / "two", seconds=0.5, reader=reader)
    assert not (tmp_path / "two").exists()
    import_weights(file, tmp_path / "two", reader=reader)
    assert reader.pid is not None
    os.kill(reader.pid, signal.SIGKILL)
    import_weights(file, tmp_path / "three", reader=reader)


def test_the_reader_can_neither_write_nor_take_much_memory(tmp_path: Path) -> None:
    """What a hostile pickle would find if PyTorch's loader ever ran it."""
    code = (
        "import os, sys\nimport pipeline.weights_reader as reader\nfrom raw.serving import limit_memory, usual_memory\n"
        "def harm(path, size):\n"
        "    sys.stderr.write('reached\\n')\n"
        f"    try:\n        open({str(tmp_path / 'harm')!r}, 'w').write('x' * 100000)\n"
        "    except OSError as error:\n        sys.stderr.write(f'{error.strerror}\\n')\n"
        "    bytearray(1 << 33)\n"
        "reader._load = harm\nreader.main()\n"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0
    )
    assert child.stdin is not None
    assert child.stdout is not None
    file = tmp_path / "weights.pth"
    torch.save(small(), file)

    def read(view: memoryview) -> None:
        while view:
            view = view[child.stdout.readinto(view) :]  # type: ignore[union-attr, index]

    try:
        assert receive(read, 0) == "ready"
        send(lambda data: child.stdin.write(data), Wish(path=str(file), which=None, seconds=60.0))  # type: ignore
        answer = receive(read, 0)
    finally:
        child.kill()
        said = child.communicate()[1].decode()
    assert answer == (False, "the decoder needed more memory than such a file may take")
    assert "reached" in said
    assert "File too large" in said
    assert (tmp_path / "harm").stat().st_size == 0
