"""Why a file was not read, in words for its owner: no name of a function, a class or a variable."""

from __future__ import annotations

from pathlib import Path

from pipeline.data.image_types import CodecError
from raw.child_process import ChildStartError

_DECODERS = ("PIL", "imagecodecs", "tifffile")
_CODE = ("returned", "NULL", "index out of range")
_PLAIN = frozenset(" ,.:;%()-/")


def reason(error: Exception, path: Path) -> str:
    """Return what was expected and what was found, without the path."""
    if isinstance(error, CodecError):
        return str(error)
    if isinstance(error, ChildStartError):
        return f"expected a decoder to read it with, found none ({error})"
    if isinstance(error, FileNotFoundError):
        return "expected an image file, found nothing there"
    if isinstance(error, OSError) and error.strerror:
        return f"expected a readable file, found: {error.strerror}"
    if isinstance(error, MemoryError):
        return "expected a picture that fits into memory, found a larger one"
    return _damaged(_told(error).removeprefix(f"{path}: "))


def refusal(error: ValueError, path: Path) -> CodecError:
    """Return the error of `raw.isolated` about a file without the path, in the form of all others."""
    told = str(error).removeprefix(f"{path}: ")
    return CodecError(told if told.startswith("expected ") else _damaged(told))


def _damaged(detail: str) -> str:
    return "expected a whole image, found a damaged one" + (f" ({detail[:200]})" if detail else "")


def _told(error: Exception) -> str:
    """The decoder's own words, if they are words: not Python's on code that trusted the file's numbers."""
    ours = isinstance(error, OSError | SyntaxError) or type(error).__module__.split(".")[0] in _DECODERS
    text = " ".join(str(error).split()).partition(" cannot be reshaped")[0]
    plain = text.isascii() and all(letter.isalnum() or letter in _PLAIN for letter in text)
    return text if ours and plain and not any(word in text for word in _CODE) else ""
