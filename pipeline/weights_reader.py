"""The child process of `pipeline.weights_import`: opens foreign weights where they can harm nobody but itself.

A `.pth` is a pickle, which is a program. PyTorch's restricted loader runs no code of it: that is the lock. This process
is no sandbox, but what crashes, hangs or swells in it harms nobody else, and it cannot write a byte to a file.
"""

from __future__ import annotations

import os
import re
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.weights_import import Weights, Wish
from raw.serving import limit_computing, limit_memory, serve, usual_memory
from raw.wire import typed

if TYPE_CHECKING:
    from torch import Tensor

_COPIES = 5
"""The file, its tensors as float32 (twice its size if they were halves), and one on its way, in sizes of the file."""

_MAX_DEPTH = 4
_MAX_PICKLE = 64 << 20
_FLOATS = ("float16", "bfloat16", "float32", "float64")
_UNSUPPORTED = re.compile(r"[Uu]nsupported (?:global: GLOBAL|GLOBAL|class) ([\w.]{1,80})")


def main() -> None:
    """Serve `pipeline.weights_import` until it is gone."""
    import torch  # loaded before the first request, not on its time

    torch.set_num_threads(1)
    serve(_answer)


def _answer(request: object) -> Weights:
    wish = typed(request, Wish)
    limit_computing(wish.seconds * 2)
    path = Path(os.fsdecode(wish.path.encode("latin-1")))
    size = path.stat().st_size
    limit_memory(usual_memory() + _COPIES * size)
    found = dict(_state_dicts(_load(path, size), wish.first))
    if not found:
        raise ValueError(f"expected the weights of {wish.what}, found no {wish.first!r} in it")
    name = _pick(list(found), wish.which)
    others = tuple(other for other in found if other != name)
    wanted = {key: value for key, value in found[name].items() if key.startswith(wish.prefix)}
    return _packed(name, others, wanted, limit=2 * size + _MAX_PICKLE)


def _load(path: Path, size: int) -> object:
    with path.open("rb") as file:
        head = file.read(9)
    if head.startswith(b"PK\x03\x04"):
        _check_archive(path, size)
    elif head[8:9] == b"{":
        return _load_safetensors(path)
    elif not head.startswith(b"\x80"):
        raise ValueError("expected weights written by torch.save or safetensors, found a file of another kind")
    import torch

    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=head.startswith(b"PK"))
    except MemoryError:
        raise
    except Exception as error:
        raise ValueError(_refusal(error)) from error


def _check_archive(path: Path, size: int) -> None:
    """Raise ValueError unless the zip holds what torch.save writes: stored entries, which cannot be bombs."""
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise ValueError("expected a whole file, found one that was cut short or damaged") from error
    if not any(entry.filename.endswith("/data.pkl") and entry.file_size <= _MAX_PICKLE for entry in entries):
        raise ValueError("expected weights written by torch.save, found another zip archive")
    if any(entry.filename.endswith("/constants.pkl") for entry in entries):
        raise ValueError("expected weights, found a TorchScript program")
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        raise ValueError("expected an archive as torch.save writes it, found compressed entries")
    if sum(entry.file_size for entry in entries) > size:
        raise ValueError("expected a whole file, found entries that announce more bytes than it has")


def _load_safetensors(path: Path) -> object:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - it is no dict
    except SafetensorError as error:
        raise ValueError(f"expected a whole safetensors file, found a damaged one ({error})") from error


def _refusal(error: Exception) -> str:
    if named := _UNSUPPORTED.search(str(error)):
        return (
            f"expected tensors alone, found the Python object {named[1]}, which is never run; if you trust the file, "
            "save its state dict alone: torch.save(network.state_dict(), file)"
        )
    if "out of memory" in str(error) or "allocate memory" in str(error):
        raise MemoryError from error
    return "expected weights that PyTorch's restricted loader reads, found a damaged file or another kind of pickle"


def _state_dicts(tree: object, first: str, place: tuple[str, ...] = ()) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Yield every group of tensors that has one named ``first``, with the name of its place in the file."""
    import torch

    if not isinstance(tree, Mapping) or len(place) > _MAX_DEPTH:
        return
    tensors = {key: value for key, value in tree.items() if isinstance(key, str) and isinstance(value, torch.Tensor)}
    prefixes = [key.removesuffix(first) for key in tensors if key == first or key.endswith(f".{first}")]
    for prefix in prefixes:
        # A network beside its copy: net.conv_first, net.ema.conv_first.
        inner = tuple(other for other in prefixes if other != prefix and other.startswith(prefix))
        words = (*place, *(word for word in prefix.split(".") if word and word != "module"))
        yield (
            ".".join(words) or "top",
            {
                key.removeprefix(prefix): value
                for key, value in tensors.items()
                if key.startswith(prefix) and not (inner and key.startswith(inner))
            },
        )
    for key, value in tree.items():
        if isinstance(key, str):
            yield from _state_dicts(value, first, (*place, key))


def _pick(names: list[str], which: str | None) -> str:
    """Return the wished name, or the only one, or that of an average of the weights, which denoises better."""
    listed = ", ".join(map(_safe, names[:8]))
    if which is not None:
        if which not in names:
            raise ValueError(f"expected --which to be one of {listed}, found {which!r}")
        return which
    averages = [name for name in names if "ema" in re.split(r"[._]", name.lower())]
    for choice in (names, averages):
        if len(choice) == 1:
            return choice[0]
    raise ValueError(f"expected one set of weights, found {len(names)}; choose with --which: {listed}")


def _packed(name: str, others: tuple[str, ...], state: dict[str, Tensor], *, limit: int) -> Weights:
    """Copy the tensors out: floats as float32, index buffers as they are, masks not at all."""
    import torch

    kept = {key: value for key, value in state.items() if not key.endswith("attn_mask")}
    announced = 0
    kinds = set()
    for key, value in kept.items():
        kind = str(value.dtype).removeprefix("torch.")
        whole = kind == "int64" and key.endswith("relative_position_index")
        if value.layout != torch.strided or value.device.type != "cpu" or value.dim() > 4:
            raise ValueError(f"{_safe(key)}: expected a plain tensor of at most 4 dimensions")
        if kind not in _FLOATS and not whole:
            raise ValueError(f"{_safe(key)}: expected floating point, found {kind}")
        kinds |= set() if whole else {kind}
        # A view may announce terabytes and have none.
        announced += value.numel() * (8 if whole else 4)
    if announced > limit:
        raise ValueError(f"expected tensors of the size of the file, found some that announce {announced} bytes")
    arrays: list[Any] = []
    for key in kept:
        value = kept[key].detach()
        arrays.append((value if value.dtype == torch.int64 else value.float()).contiguous().numpy())
    return Weights(
        name=name,
        others=others,
        kinds=tuple(sorted(kinds)),
        names=tuple(kept),
        arrays=tuple(np.asarray(array) for array in arrays),
    )


def _safe(key: str) -> str:
    return key if key.isprintable() and len(key) <= 120 else ascii(key[:120])
