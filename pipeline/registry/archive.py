"""A whole registered model as one file, from one registry to another."""

from __future__ import annotations

import hashlib
import stat
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.data.paths import shown
from pipeline.errors import UserError
from pipeline.registry.artifact import (
    MANIFEST,
    MAX_FILES,
    MAX_MANIFEST_BYTES,
    README,
    WEIGHTS,
    check_files,
    read_manifest,
)
from pipeline.registry.served import Served

_WHEN = (1980, 1, 1, 0, 0, 0)


def write_archive(folder: Path, digest: str, out: Path) -> None:
    """Write a model folder as a zip file, the same bytes for the same model; it appears whole or not at all.

    Raises:
        UserError: the folder is not what its digest says.
    """
    from pipeline.data.images import replacing

    entries = check_files(folder, digest, shown(folder), strict=False)
    with replacing(out) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
        for name in (MANIFEST, *(entry.path for entry in entries)):
            member = zipfile.ZipInfo(name, _WHEN)
            member.external_attr = (stat.S_IFREG | 0o644) << 16
            archive.writestr(member, (folder / name).read_bytes())


def is_archive(path: Path) -> bool:
    """Whether a file is a zip file that lists a model (PyTorch's own files are zip files too)."""
    if not path.is_file() or not zipfile.is_zipfile(path):
        return False
    try:
        with zipfile.ZipFile(path) as archive:
            return MANIFEST in archive.namelist()
    except (zipfile.BadZipFile, OSError, NotImplementedError, ValueError):
        return False


@contextmanager
def opened(path: Path) -> Iterator[Served]:
    """Extract a file of `write_archive` into a temporary folder, every byte checked against its list.

    What the list does not name is not read; no path of the file's own is ever joined to the folder.

    Raises:
        UserError: not such a file, or damaged, or made to do harm.
    """
    where = shown(path)
    with tempfile.TemporaryDirectory(prefix="unveil-import-") as temporary:
        folder = Path(temporary)
        try:
            with zipfile.ZipFile(path) as archive:
                digest = _extract(archive, folder, where)
        except (zipfile.BadZipFile, zlib.error, NotImplementedError, EOFError, RuntimeError, OSError) as error:
            # RuntimeError: encrypted.
            raise UserError(
                f"{where}: expected a model of `unveil models export`, found a damaged file: {error}"
            ) from None
        check_files(folder, digest, where)
        yield Served(folder, digest, _card(folder), _readme(folder))


def _extract(archive: zipfile.ZipFile, folder: Path, where: str) -> str:
    members = archive.infolist()
    names = [member.filename for member in members]
    if len(names) > MAX_FILES + 1 or len(set(names)) != len(names):
        raise UserError(f"{where}: expected at most {MAX_FILES + 1} files of different names, found {len(names)}")
    if MANIFEST not in names:
        raise UserError(f"{where}: expected a model of `unveil models export`, found no {MANIFEST}")
    for member in members:
        kind = stat.S_IFMT(member.external_attr >> 16)
        if kind not in (0, stat.S_IFREG):
            raise UserError(f"{where}: expected plain files, found a link or a device: {member.filename!a}")
    data = _read(archive, MANIFEST, MAX_MANIFEST_BYTES)
    entries = read_manifest(data, where, digest=None)
    if extra := sorted(set(names) - {MANIFEST} - {entry.path for entry in entries}):
        raise UserError(f"{where}: expected the files of its list, found another: {extra[0]!a}")
    (folder / MANIFEST).write_bytes(data)
    for entry in entries:
        if entry.path not in names:
            raise UserError(f"{where}: {entry.path} is missing: the file was changed or damaged")
        content = _read(archive, entry.path, entry.size)
        if len(content) != entry.size or hashlib.sha256(content).hexdigest() != entry.sha256:
            raise UserError(f"{where}: {entry.path} is not what was exported (sha256 differs)")
        target = folder / entry.path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
    return hashlib.sha256(data).hexdigest()


def _read(archive: zipfile.ZipFile, name: str, limit: int) -> bytes:
    """Read at most one byte more than is allowed, whatever the archive announces."""
    with archive.open(name) as file:
        return file.read(limit + 1)


def _card(folder: Path) -> dict[str, object]:
    from models import load

    try:
        return load(folder / WEIGHTS).card
    except ValueError as error:
        raise UserError(str(error)) from None


def _readme(folder: Path) -> str:
    path = folder / WEIGHTS / README
    return path.read_text("utf-8", errors="replace")[:100_000] if path.is_file() else ""


def export_archive(reference: str, out: Path) -> str:
    """Write the registered model that ``reference`` names, or that a weights folder would become, as one file.

    Returns:
        Its digest.

    Raises:
        UserError: ``out`` exists or its folder does not, or no such model.
    """
    from pipeline.inference.denoiser import find_weights
    from pipeline.registry.pull import pull
    from pipeline.registry.served import served_model

    if out.exists() or not out.parent.is_dir():
        found = f"found {out.name}" if out.exists() else f"found no folder {str(out.parent)!r}"
        raise UserError(f"--out {str(out)!r}: expected a file that does not exist yet, {found}")
    if not reference.startswith(("models:/", "runs:/")):
        with served_model(find_weights(reference)) as served:
            write_archive(served.folder, served.digest, out)
            return served.digest
    pulled = pull(reference)
    if not pulled.listed:
        raise UserError(
            f"{reference}: expected a model that lists its files, found one registered by unveil 0.5 or before; "
            "`unveil models register` it anew"
        )
    write_archive(pulled.folder, pulled.digest, out)
    return pulled.digest
