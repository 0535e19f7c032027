"""The folder that a registered model is, and the list of its files by hash, which travels in it.

`unveil.json` names every other file with its size and sha256; the sha256 of `unveil.json` itself, the digest, stands
in the registry as a tag of the version. So who holds the digest holds every byte.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Final

from pipeline.data.folders import file_hash
from pipeline.data.paths import shown
from pipeline.errors import UserError

MANIFEST: Final = "unveil.json"
WEIGHTS: Final = "artifacts/weights"
"""The weights folder inside a registered model."""

_NEEDED: Final = ("MLmodel", f"{WEIGHTS}/model.json", f"{WEIGHTS}/model.safetensors")
README: Final = "README.md"
MAX_BYTES: Final = 4 << 30
MAX_FILES: Final = 512
MAX_MANIFEST_BYTES: Final = 1 << 20

_FORMAT: Final = 1
_PICKLES: Final = (".pkl", ".pickle", ".pt", ".pth", ".ckpt", ".bin", ".joblib", ".dill", ".npy", ".npz", ".pyc", ".so")
_LOADER: Final = "mlflow.pyfunc.loaders.code_model"
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
LEFT_BY_MLFLOW: Final = "registered_model_meta"
"""A note that MLflow leaves in folders it downloads."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One file of a registered model."""

    path: str
    """Below the model's folder, with slashes."""

    size: int
    """Bytes."""

    sha256: str


def write_manifest(folder: Path, facts: Mapping[str, Any]) -> str:
    """List the files of a finished model folder in its `unveil.json`, and return the digest."""
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    files = {name: {"bytes": (folder / name).stat().st_size, "sha256": file_hash(folder / name)} for name in names}
    text = json.dumps({"format": _FORMAT, **facts, "files": files}, indent=1) + "\n"
    (folder / MANIFEST).write_text(text, "utf-8")
    return hashlib.sha256(text.encode()).hexdigest()


def read_manifest(data: bytes, where: str, *, digest: str | None) -> list[Entry]:
    """Return the files that an `unveil.json` lists, every one of them safe to write below a folder.

    Args:
        data: what was read, at most `MAX_MANIFEST_BYTES` + 1 bytes.
        where: for messages.
        digest: what its sha256 must be; None where nobody has said.

    Raises:
        UserError: it is not what the registry says, or lists what no model of unveil holds.
    """

    def refused(why: str) -> UserError:
        return UserError(f"{where}: expected a model registered by unveil, found {MANIFEST} {why}")

    if len(data) > MAX_MANIFEST_BYTES:
        raise refused(f"of more than {MAX_MANIFEST_BYTES} bytes")
    if digest is not None and hashlib.sha256(data).hexdigest() != digest:
        raise refused("that is not the one that was registered (sha256 differs): it was changed or damaged")
    try:
        document = json.loads(data)
        if document["format"] != _FORMAT:
            raise refused(f"of format {document['format']!r}; this version reads {_FORMAT}")
        entries = [
            Entry(str(name), int(file["bytes"]), str(file["sha256"])) for name, file in document["files"].items()
        ]
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise refused("that is damaged") from None
    if len(entries) > MAX_FILES or any(each.size < 0 for each in entries) or sum(e.size for e in entries) > MAX_BYTES:
        raise refused(f"that lists more than {MAX_FILES} files or {MAX_BYTES >> 30} GB")
    for entry in entries:
        if not _DIGEST.fullmatch(entry.sha256):
            raise refused("that is damaged")
        if not is_safe(entry.path):
            raise refused(f"that lists {entry.path!a}, a path that leads elsewhere")
        if entry.path.lower().endswith(_PICKLES):
            raise refused(f"that lists {shown(entry.path)}: pickles and binaries are never loaded")
    if missing := [name for name in _NEEDED if name not in {entry.path for entry in entries}]:
        raise refused(f"that lists no {missing[0]}")
    return entries


def is_safe(path: str) -> bool:
    """Whether a path from elsewhere stays below the folder it is joined to, on any system, and prints on one line."""
    parts = PurePosixPath(path).parts
    return (
        bool(parts)
        and "/".join(parts) == path
        and not path.startswith("/")
        and not any(part in ("..", ".") or part != part.strip() for part in parts)
        and path.isprintable()
        and not set(path) & set('\\:*?"<>|')
        and len(path) < 256
    )


def check_files(folder: Path, digest: str | None, where: str, *, strict: bool = True) -> list[Entry]:
    """Hash every file of a model folder that is here, and return what it lists.

    Args:
        folder: holds `unveil.json`.
        digest: sha256 of `unveil.json`; None where nobody has said.
        where: for messages.
        strict: also refuse files that are not listed.

    Raises:
        UserError: a file is missing, differs, is a link, or is not listed; or the model is not what can be trusted
            to hold no pickle.
    """
    if (folder / MANIFEST).is_symlink() or not (folder / MANIFEST).is_file():
        raise UserError(f"{where}: expected a model registered by unveil, found one without {MANIFEST}")
    with (folder / MANIFEST).open("rb") as file:
        entries = read_manifest(file.read(MAX_MANIFEST_BYTES + 1), where, digest=digest)
    for entry in entries:
        path = folder / entry.path
        if any(part.is_symlink() for part in (path, *path.parents) if part != folder and folder in part.parents):
            raise UserError(f"{where}: expected files, found a symbolic link: {entry.path}")
        if not path.is_file() or path.stat().st_size != entry.size or file_hash(path) != entry.sha256:
            found = "is not what was registered (sha256 differs)" if path.is_file() else "is missing"
            raise UserError(f"{where}: {entry.path} {found}: the model was changed or damaged")
    if strict:
        known = {entry.path for entry in entries} | {MANIFEST, LEFT_BY_MLFLOW}
        for path in sorted(folder.rglob("*")):
            name = path.relative_to(folder).as_posix()
            if not path.is_dir() and name not in known:
                raise UserError(f"{where}: expected the files that were registered, found another: {shown(name)}")
    check_loader((folder / "MLmodel").read_bytes() if (folder / "MLmodel").is_file() else b"", where)
    return entries


def check_loader(mlmodel: bytes, where: str) -> None:
    """Refuse an `MLmodel` by which MLflow would do anything but run the serving file of a model of unveil.

    Raises:
        UserError: another loader or flavor.
    """
    import yaml  # comes with mlflow

    try:
        flavors = yaml.safe_load(mlmodel)["flavors"]
        loader = flavors["python_function"]["loader_module"]
        code = flavors["python_function"]["model_code_path"]
        others = sorted(set(flavors) - {"python_function"})
    except (yaml.YAMLError, TypeError, KeyError, AttributeError, RecursionError):
        raise UserError(f"{where}: expected a model registered by unveil, found no MLmodel of one") from None
    if loader != _LOADER or others or code != "serving.py" or "python_model" in flavors["python_function"]:
        what = ascii(others[0] if others else loader)
        raise UserError(
            f"{where}: expected a model registered by unveil, found one for {what}; others may hold a pickle, which "
            "runs code, and are never loaded"
        )


def network_digest(files: Mapping[str, bytes]) -> str:
    """Return the hash that names the network code: twelve hexadecimal digits of its files by name."""
    digest = hashlib.sha256()
    for name in sorted(files):
        digest.update(name.encode() + b"\0" + files[name])
    return digest.hexdigest()[:12]
