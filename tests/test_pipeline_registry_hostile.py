"""Models made to do harm, from a registry or a file: refused in one line, nothing run, nothing written elsewhere."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
import stat
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from models import load
from pipeline.errors import UserError
from pipeline.home import home
from pipeline.registry.archive import write_archive
from pipeline.registry.artifact import is_safe, write_manifest
from pipeline.registry.pull import pull
from pipeline.registry.store import register_weights
from tests.registered import stored, weights

Run = Callable[..., tuple[int, dict[str, Any] | None, str]]


@pytest.fixture
def model(tmp_path: Path) -> str:
    """A registered model of its own, whose files the test may spoil."""
    name = f"hostile-{secrets.token_hex(4)}"
    register_weights(weights(tmp_path / "w"), experiment="hostile", model=name, alias="champion")
    return f"models:/{name}/1"


def relist(reference: str, change: Callable[[dict[str, Any]], None] | None = None) -> None:
    """List the files anew and tell the registry so, as somebody would who may write to both."""
    import mlflow

    folder = stored(reference)
    (folder / "unveil.json").unlink(missing_ok=True)
    digest = write_manifest(folder, {})
    if change is not None:
        document = json.loads((folder / "unveil.json").read_text())
        change(document)
        text = json.dumps(document)
        (folder / "unveil.json").write_text(text)
        digest = hashlib.sha256(text.encode()).hexdigest()
    name = reference.split("/")[1]
    mlflow.MlflowClient().set_model_version_tag(name, "1", "unveil.manifest", digest)


def refused(reference: str) -> str:
    before = {path for path in home().rglob("*") if "models" in path.parts}
    with pytest.raises(UserError) as caught:
        pull(reference)
    assert "\n" not in str(caught.value)
    kept = {path for path in (home() / "models").iterdir() if path not in before}
    assert {path.name for path in kept} <= {"references.json", "references.lock"}
    return str(caught.value)


def test_a_list_with_a_path_that_leads_elsewhere_is_refused(model: str) -> None:
    for path in ("../evil.py", "/etc/evil", "a/../../b", "code//x.py", "./x", "C:\\x", "a\nb", "x ", "\u202ex", ""):
        assert not is_safe(path), path
        relist(model, lambda document, path=path: document["files"].update({path: {"bytes": 1, "sha256": "0" * 64}}))
        assert "a path that leads elsewhere" in refused(model)
    assert is_safe("artifacts/weights/model.json")


def test_a_list_that_announces_too_much_or_is_damaged_is_refused(model: str) -> None:
    for change, reason in (
        (lambda d: d["files"].update(big={"bytes": 5 << 30, "sha256": "0" * 64}), "or 4 GB"),
        (lambda d: d["files"].update({f"f{n}": {"bytes": 1, "sha256": "0" * 64} for n in range(600)}), "more than 512"),
        (lambda d: d["files"].update(x={"bytes": -1, "sha256": "0" * 64}), "lists more than"),
        (lambda d: d["files"].update(x={"bytes": 1, "sha256": "../../../x"}), "damaged"),
        (lambda d: d.update(files=[1]), "damaged"),
        (lambda d: d["files"].pop("artifacts/weights/model.json"), "that lists no artifacts/weights/model.json"),
        (lambda d: d.update(format=7), "of format 7"),
    ):
        relist(model, change)
        assert reason in refused(model)


def test_a_symbolic_link_in_the_store_is_not_followed(model: str, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    folder = stored(model)
    (folder / "README").symlink_to(tmp_path / "secret")
    relist(model)
    assert "found a symbolic link: README" in refused(model)
    (folder / "README").unlink()
    relist(model)
    shutil.move(folder / "artifacts", tmp_path / "artifacts")
    (folder / "artifacts").symlink_to(tmp_path / "artifacts")
    assert "found a symbolic link: artifacts/weights/" in refused(model)


def test_another_loader_is_refused_before_anything_is_loaded(model: str) -> None:
    place = stored(model) / "MLmodel"
    text = place.read_text()
    for old, new in (
        ("mlflow.pyfunc.loaders.code_model", "mlflow.sklearn"),
        ("mlflow.pyfunc.loaders.code_model", "evil"),
        ("flavors:\n", "flavors:\n  sklearn:\n    pickled_model: model.pkl\n"),
        ("model_code_path: serving.py", "model_code_path: ../serving.py"),
        ("    env:\n", "    python_model: python_model.pkl\n    env:\n"),
        (text, "!!python/object/apply:os.system ['touch /tmp/unveil-was-here']"),
    ):
        assert old in text
        place.write_text(text.replace(old, new))
        relist(model)
        assert "expected a model registered by unveil" in refused(model)
    assert not Path("/tmp/unveil-was-here").exists()


class _Payload:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.mkdir, (str(self.mark),))


def test_a_pickled_model_of_mlflow_is_refused_and_never_opened(tmp_path: Path) -> None:
    """Logged by MLflow itself, with a pickle that makes a folder when it is read."""
    import pickle

    import mlflow

    from pipeline.registry.served import quiet
    from pipeline.tracking import connect, experiment_id

    class Echo(mlflow.pyfunc.PythonModel):
        def predict(self, context, model_input):  # noqa: ARG002
            return model_input

    connect()
    with quiet(), mlflow.start_run(experiment_id=experiment_id(mlflow, "hostile")):
        info = mlflow.pyfunc.log_model(
            name="model", python_model=Echo(), pip_requirements=[], registered_model_name="pickled"
        )
    place = stored("models:/pickled/1") / "python_model.pkl"
    assert place.is_file(), info
    place.write_bytes(pickle.dumps(_Payload(tmp_path / "was-here")))
    assert "found a pickled one (python_model.pkl), which is never loaded" in refused("models:/pickled/1")
    relist("models:/pickled/1")
    assert "pickles and binaries are never loaded" in refused("models:/pickled/1")
    assert not (tmp_path / "was-here").exists()


def archive_of(model: str, out: Path) -> Path:
    found = pull(model)
    write_archive(found.folder, found.digest, out)
    return out


def rewritten(
    source: Path, out: Path, change: Callable[[zipfile.ZipInfo, bytes], tuple[zipfile.ZipInfo, bytes]]
) -> Path:
    with zipfile.ZipFile(source) as before, zipfile.ZipFile(out, "w") as after:
        for member in before.infolist():
            after.writestr(*change(member, before.read(member)))
    return out


def test_a_file_made_to_do_harm_is_refused_by_import(model: str, tmp_path: Path, unveil: Run) -> None:
    good = archive_of(model, tmp_path / "good.zip")

    def tried(file: Path) -> str:
        code, _, text = unveil("models", "import", file, "--out", tmp_path / "out")
        assert (code, text.count("\n")) == (2, 1), text
        assert not (tmp_path / "out").exists()
        return text

    def link(member: zipfile.ZipInfo, data: bytes) -> tuple[zipfile.ZipInfo, bytes]:
        if member.filename == "serving.py":
            member.external_attr = (stat.S_IFLNK | 0o777) << 16
            return member, b"/etc/passwd"
        return member, data

    def swapped(member: zipfile.ZipInfo, data: bytes) -> tuple[zipfile.ZipInfo, bytes]:
        return member, data.replace(b"import", b"lmport", 1) if member.filename == "serving.py" else data

    def bomb(member: zipfile.ZipInfo, data: bytes) -> tuple[zipfile.ZipInfo, bytes]:
        member.compress_type = zipfile.ZIP_DEFLATED
        return member, bytes(20 << 20) if member.filename == "serving.py" else data

    assert "found a link or a device: 'serving.py'" in tried(rewritten(good, tmp_path / "link.zip", link))
    assert "serving.py is not what was exported" in tried(rewritten(good, tmp_path / "swapped.zip", swapped))
    assert "serving.py is not what was exported" in tried(rewritten(good, tmp_path / "bomb.zip", bomb))
    for name in ("../evil.py", "/tmp/evil.py", "code/../../evil.py", "evil.py"):
        file = Path(shutil.copyfile(good, tmp_path / "more.zip"))
        with zipfile.ZipFile(file, "a") as archive:
            archive.writestr(name, "print('evil')")
        assert f"expected the files of its list, found another: {name!a}" in tried(file)
    data = bytearray(good.read_bytes())
    data[len(data) // 2] ^= 255
    (tmp_path / "flipped.zip").write_bytes(data)
    tried(tmp_path / "flipped.zip")
    (tmp_path / "cut.zip").write_bytes(good.read_bytes()[:-30])
    tried(tmp_path / "cut.zip")
    assert unveil("models", "import", good, "--out", tmp_path / "out")[0] == 0
    assert not (tmp_path.parent / "evil.py").exists()


def safetensors(header: dict[str, Any], data: bytes) -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def test_headers_of_weights_that_lie_are_refused(tmp_path: Path) -> None:
    """The hash in the card is made to fit, so that only the header tells."""
    folder = weights(tmp_path / "w")
    content = (folder / "model.safetensors").read_bytes()
    length = struct.unpack("<Q", content[:8])[0]
    header, data = json.loads(content[8 : 8 + length]), content[8 + length :]
    first, second = sorted(header, key=lambda name: header[name]["data_offsets"])[:2]

    def offsets(name: str, *span: int) -> dict[str, Any]:
        return {**header, name: {**header[name], "data_offsets": list(span)}}

    lies = {
        "overlapping": safetensors(offsets(second, *header[first]["data_offsets"]), data),
        "negative": safetensors(offsets(first, -4, 0), data),
        "beyond the end": safetensors(offsets(first, 0, 1 << 40), data),
        "no numbers": safetensors(offsets(first, "a", "b"), data),  # type: ignore[arg-type]
        "a huge shape": safetensors({**header, first: {**header[first], "shape": [1 << 40, 1 << 40]}}, data),
        "a huge header": struct.pack("<Q", 1 << 62) + content[8:],
        "an unknown dtype": safetensors({**header, first: {**header[first], "dtype": "PICKLE"}}, data),
        "two of one name": content[:8] + content[8:9] + content[9 : 8 + length] + data + b"x",
    }
    card = json.loads((folder / "model.json").read_text())
    for lie, made in lies.items():
        (folder / "model.safetensors").write_bytes(made)
        (folder / "model.json").write_text(json.dumps({**card, "sha256": hashlib.sha256(made).hexdigest()}))
        with pytest.raises(ValueError, match=r"model\.safetensors: ") as caught:
            load(folder)
        assert "\n" not in str(caught.value), lie
