"""A reference to a registered model as a folder on this machine: checked by hash, kept, and there without a network."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.data.paths import shown
from pipeline.errors import UserError
from pipeline.registry import cache
from pipeline.registry.artifact import (
    LEFT_BY_MLFLOW,
    MANIFEST,
    MAX_FILES,
    MAX_MANIFEST_BYTES,
    WEIGHTS,
    check_files,
    read_manifest,
)

if TYPE_CHECKING:
    from pipeline.registry.store import Files

_CARD, _WEIGHTS = f"{WEIGHTS}/model.json", f"{WEIGHTS}/model.safetensors"
_PICKLE = "python_model.pkl"


@dataclass(frozen=True, kw_only=True, slots=True)
class Pulled:
    """A model that is here."""

    folder: Path
    """All its files; the weights folder is below, at `WEIGHTS`. Read it only."""

    digest: str
    """sha256 of its `unveil.json`, or of its `model.json` if it has none."""

    listed: bool
    """Whether it has an `unveil.json`."""

    name: str | None
    version: int | None
    note: str | None
    """What to tell the user, such as that the registry did not answer."""

    @property
    def weights(self) -> Path:
        """The weights folder."""
        return self.folder / WEIGHTS


def fetch(reference: str) -> Path:
    """Return the local weights folder of a registered model, and tell on stderr if the registry did not answer."""
    from pipeline.console import console

    pulled = pull(reference)
    if pulled.note:
        console.print(f"note: {pulled.note}", markup=False, style="yellow", soft_wrap=True)
    return pulled.weights


def pull(reference: str, *, offline: bool | None = None) -> Pulled:
    """Return a registered model, downloaded unless the same bytes are here.

    Args:
        reference: ``models:/name@alias``, ``models:/name/3`` or ``runs:/id``.
        offline: do not ask the registry; None for what ``UNVEIL_OFFLINE`` says.

    Raises:
        UserError: no such model, or one that is damaged, changed, or not made by unveil.
        RunError: the registry does not answer, and the model was never pulled.
    """
    if offline if offline is not None else os.environ.get("UNVEIL_OFFLINE", "") not in ("", "0"):
        return _remembered(reference, "offline")
    from pipeline.registry.store import RegistryAwayError

    try:
        return _current(reference)
    except RegistryAwayError as error:
        from pipeline.tracking import masked_uri

        if cache.recall(masked_uri(), reference) is None:
            raise
        why = str(error).partition(": ")[2] or str(error)
        return _remembered(reference, why)


def _remembered(reference: str, why: str) -> Pulled:
    from pipeline.tracking import masked_uri

    known = cache.recall(masked_uri(), reference)
    folder = cache.cached(known["digest"]) if known else None
    if known is None or folder is None:
        raise UserError(f"--model {reference!r}: {why}, and it was never pulled from {masked_uri()} on this machine")
    when = datetime.fromtimestamp(float(known.get("time", 0)), UTC).strftime("%Y-%m-%d %H:%M UTC")
    version = known.get("version")
    which = f"version {version}, " if version else ""
    return _checked(
        Pulled(
            folder=folder,
            digest=known["digest"],
            listed=(folder / MANIFEST).is_file(),
            name=known.get("name"),
            version=version,
            note=f"{why}; {reference} is taken as it was pulled: {which}{when}",
        ),
        reference,
    )


@contextmanager
def pulled_anew(reference: str) -> Iterator[Pulled]:
    """Yield a registered model as the registry has it now, every file downloaded into a folder that is then removed.

    Raises:
        UserError: as `pull`; or there are files that were not registered.
        RunError: the registry does not answer.
    """
    from pipeline.registry.store import Files, find

    found = find(reference)
    files = Files(found, reference)
    with cache.staging() as folder:
        digest, listed = _download(files, folder, found.digest, reference)
        if listed:
            entries = check_files(folder, digest, f"--model {reference!r}")
            known = {MANIFEST, LEFT_BY_MLFLOW, *(entry.path for entry in entries)}
            if extra := sorted(set(files.walk(limit=2 * MAX_FILES)) - known):
                raise UserError(
                    f"--model {reference!r}: expected the files that were registered, found another: {shown(extra[0])}"
                )
        yield Pulled(folder=folder, digest=digest, listed=listed, name=found.name, version=found.version, note=None)


def _current(reference: str) -> Pulled:
    from pipeline.registry.store import Files, find
    from pipeline.tracking import masked_uri

    found = find(reference)

    def pulled(digest: str, folder: Path, *, listed: bool) -> Pulled:
        facts = {"digest": digest, "name": found.name, "version": found.version}
        cache.remember(masked_uri(), reference, facts)
        return Pulled(folder=folder, digest=digest, listed=listed, name=found.name, version=found.version, note=None)

    if found.digest is not None and (folder := cache.cached(found.digest)) is not None:
        try:
            return _checked(pulled(found.digest, folder, listed=True), reference)
        except UserError:  # damaged on this machine; the registry has it whole
            cache.drop(found.digest)
    files = Files(found, reference)
    with cache.staging() as folder:
        digest, listed = _download(files, folder, found.digest, reference)
        if listed:
            check_files(folder, digest, f"--model {reference!r}")
        return pulled(digest, cache.keep(digest, folder), listed=listed)


def _download(files: Files, folder: Path, digest: str | None, reference: str) -> tuple[str, bool]:
    """Download a model; return what names its bytes, and whether it lists its files."""
    if digest is not None or MANIFEST in files.names():
        return _download_listed(files, folder, digest, reference), True
    return _download_unlisted(files, folder, reference), False


def _download_listed(files: Files, folder: Path, digest: str | None, reference: str) -> str:
    """Download what `unveil.json` lists, and nothing else; return its sha256."""
    from pipeline.console import progress

    where = f"--model {reference!r}"
    with files.download(MANIFEST, folder).open("rb") as file:
        data = file.read(MAX_MANIFEST_BYTES + 1)
    entries = read_manifest(data, where, digest=digest)
    with progress() as bar:
        for entry in bar.track(entries, description="downloading"):
            files.download(entry.path, folder)
    return hashlib.sha256(data).hexdigest()


def _download_unlisted(files: Files, folder: Path, reference: str) -> str:
    """Download weights and card of a model that was registered by unveil 0.5 or before; return the card's sha256."""
    where = f"--model {reference!r}"
    names = files.names()
    if _PICKLE in names:
        raise UserError(
            f"{where}: expected a model registered by unveil, found a pickled one ({_PICKLE}), which is never loaded"
        )
    for name in (_CARD, _WEIGHTS):
        try:
            files.download(name, folder)
        except UserError as error:
            raise UserError(f"{where}: expected a model registered by unveil, found one without {name}") from error
    return hashlib.sha256((folder / _CARD).read_bytes()).hexdigest()


def _checked(pulled: Pulled, reference: str) -> Pulled:
    """Hash all files, which costs milliseconds; of models without a list `models.load` hashes the weights."""
    if pulled.listed:
        check_files(pulled.folder, pulled.digest, f"--model {reference!r}", strict=False)
    return pulled
