"""Whether a model is what was registered: files by hash, card, requirements, and what it makes of its test picture."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from pipeline.errors import UserError
from pipeline.registry.artifact import MANIFEST, README, WEIGHTS, check_files, network_digest

_NEEDED = ("mlflow", "numpy", "safetensors", "torch")
_CODE = "code"


def verify_model(reference: str, *, offline: bool = False) -> list[tuple[str, str]]:
    """Verify a model and return what was found, one (check, finding) each.

    No code of the model runs: its network code is compared by hash, and the test picture goes through ours.

    Args:
        reference: ``models:/...`` or ``runs:/...``, a weights folder with its test picture, or a file of
            `pipeline.registry.archive`.
        offline: take what was pulled before.

    Raises:
        UserError: whatever does not hold, in one line.
        RunError: the registry does not answer, and the model was never pulled.
    """
    with _opened(reference, offline=offline) as (root, weights, rows):
        if root is not None:
            rows += [("code", _code(root, reference)), ("requirements", _requirements(root, reference))]
        return rows + _network(weights)


@contextlib.contextmanager
def _opened(reference: str, *, offline: bool) -> Iterator[tuple[Path | None, Path, list[tuple[str, str]]]]:
    """Yield the model's folder (None for mere weights), its weights folder, and what is known so far."""
    from pipeline.inference.denoiser import find_weights
    from pipeline.registry.archive import is_archive, opened
    from pipeline.registry.pull import pull, pulled_anew

    if reference.startswith(("models:/", "runs:/")):
        # As others would get it now, whatever was pulled before.
        with contextlib.nullcontext(pull(reference, offline=True)) if offline else pulled_anew(reference) as pulled:
            rows = [("registry", pulled.note or _place(pulled.name, pulled.version))]
            if not pulled.listed:
                rows.append(("files", f"no {MANIFEST}: registered by unveil 0.5 or before; only weights have a hash"))
                yield None, pulled.weights, rows
                return
            entries = check_files(pulled.folder, pulled.digest, f"--model {reference!r}")
            rows.append(("files", f"{len(entries)} of {len(entries)} by sha256; {MANIFEST} {pulled.digest}"))
            yield pulled.folder, pulled.weights, rows
    elif is_archive(Path(reference)):
        with opened(Path(reference)) as model:
            entries = check_files(model.folder, model.digest, reference)
            yield model.folder, model.folder / WEIGHTS, [("files", f"{len(entries)} of {len(entries)} by sha256")]
    else:
        yield None, find_weights(reference), []


def _place(name: str | None, version: int | None) -> str:
    from pipeline.tracking import masked_uri

    return f"{masked_uri()}: {f'{name}, version {version}' if name else 'a run'}"


def _code(root: Path, where: str) -> str:
    import models

    folders = [path for path in (root / _CODE).iterdir() if path.is_dir()] if (root / _CODE).is_dir() else []
    if len(folders) != 1:
        raise UserError(f"{where}: expected network code in one folder below {_CODE}, found {len(folders)}")
    digest = network_digest({path.name: path.read_bytes() for path in folders[0].glob("*.py")})
    if folders[0].name != f"unveil_network_{digest}":
        raise UserError(f"{where}: expected network code of the hash in its name {folders[0].name}, found {digest}")
    ours = network_digest({path.name: path.read_bytes() for path in Path(models.__file__).parent.glob("*.py")})
    return f"{digest}, {'that of this version' if digest == ours else f'not that of this version ({ours})'}"


def _requirements(root: Path, where: str) -> str:
    from importlib.metadata import version

    try:
        lines = (root / "requirements.txt").read_text("utf-8").split()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{where}: expected requirements.txt, found none that can be read ({error})") from None
    pinned = dict(line.split("==", 1) for line in lines if line.count("==") == 1)
    if len(pinned) != len(lines) or sorted(pinned) != sorted(_NEEDED):
        raise UserError(f"{where}: expected {', '.join(_NEEDED)} pinned in requirements.txt, found {' '.join(lines)!a}")
    here = {name: version(name).partition("+")[0] for name in _NEEDED}
    other = [f"{name} {here[name]} here" for name in _NEEDED if here[name] != pinned[name]]
    return ", ".join(f"{name} {pinned[name]}" for name in _NEEDED) + (
        f" ({', '.join(other)})" if other else ", as here"
    )


def _network(weights: Path) -> list[tuple[str, str]]:
    from models import load
    from pipeline.registry.card import licence
    from pipeline.registry.pair import PAIR, check_pair
    from pipeline.registry.promotion import verdict

    try:
        loaded = load(weights)
    except (ValueError, OSError) as error:
        raise UserError(f"{error}") from error
    rows = [
        ("weights", f"sha256 {loaded.sha256}, finite, {loaded.spec.kind}"),
        ("card", f"gate: {verdict(loaded.card).text}; licence of the data: {licence(loaded.card)}"),
    ]
    if not (weights / README).is_file() or not (weights / PAIR).is_file():
        return [*rows, ("test picture", f"none: this folder has no {PAIR}, which registering adds")]
    check = check_pair(loaded, weights)
    same = "the same bytes" if check.bytes_equal else "other bytes in 8 bits, within what rounding explains"
    return [*rows, ("test picture", f"{same}; largest difference {check.largest_difference:.1e}")]
