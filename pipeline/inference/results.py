"""What became of each file of a batch, and how it is told: in the order of the sources, the bad ones with reasons."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Literal

from pipeline.data.paths import shown
from pipeline.inference.offset import told as offset_told
from pipeline.inference.residual import doubtful
from pipeline.inference.shipped import RAWS

Status = Literal["ok", "failed", "skipped"]

STOPPED: Final = 130
"""Exit code after Ctrl-C, as shells have it."""

_REASONS_SHOWN: Final = 10
_NAMES_SHOWN: Final = 3

_NOTES_SHOWN: Final = 12
"""Of ten thousand frames each may have a note of its own."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FileResult:
    """What became of one source file."""

    source: str
    """Path that was read."""

    output: str
    """Path that was, or would have been, written."""

    status: Status
    """``skipped``: the output is there already and was left alone."""

    error: str | None = None
    """One line, or None. Of a skipped file: why its output was left alone, or None if that is what would be made."""

    seconds: float = 0.0
    """Reading, denoising and writing."""

    note: str | None = None
    """How the pixels were made, where a user should know it (`Image.note`)."""

    offset: dict[str, Any] | None = None
    """How far the network's brightness and colour are from the noisy picture (`denoise_measured`), if it is known."""

    residual: dict[str, Any] | None = None
    """What was taken off (`pipeline.inference.residual.residual_of`), if it is known."""

    model: str | None = None
    """The model that it was for, as it was named; None with a fit."""

    fallback: str | None = None
    """Why a raw file was developed and went to the model for pictures, though there is one for raws; or None."""

    def reason(self) -> str:
        """Return the error without the path that it begins with; empty if there is none."""
        return (self.error or "").removeprefix(f"{shown(self.source)}: ")


@dataclass(frozen=True, kw_only=True, slots=True)
class Made:
    """What is known about an output that was written."""

    note: str | None = None
    """As in `FileResult`."""

    offset: dict[str, Any] | None = None
    """As in `FileResult`."""

    residual: dict[str, Any] | None = None
    """As in `FileResult`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FilesSummary:
    """What became of all files, in the order of the sources."""

    files: tuple[FileResult, ...]
    """One entry a source file that was finished."""

    stopped: bool = False
    """Whether the user ended it early."""

    left: int = 0
    """Files that were not finished when it was stopped."""

    manifest: str | None = None
    """Path of the manifest, if one was kept."""

    unserved: tuple[FileResult, ...] = ()
    """Files that are nothing for the model, with the reason, and that another one is to take; not among ``files``."""

    def count(self, status: Status) -> int:
        """Return how many files ended with ``status``."""
        return sum(file.status == status for file in self.files)

    def exit_code(self) -> int:
        """Return 0: all done, 1: all failed, 3: some failed, 130: stopped."""
        if self.stopped:
            return STOPPED
        failed = self.count("failed")
        return 0 if not failed else 1 if failed == len(self.files) else 3

    def notes(self) -> dict[str, int]:
        """Return each note once, with the number of files that have it, the most frequent first."""
        return dict(Counter(file.note for file in self.files if file.note is not None).most_common())

    def told(self, out: str) -> list[str]:
        """Return lines: the bad files with reasons, the counts, each note once, and what to look at.

        Args:
            out: the folder, as shown.
        """
        skipped = [file for file in self.files if file.status == "skipped"]
        parts = [f"{self.count('ok')} written to {out}"]
        if current := sum(file.error is None for file in skipped):
            parts.append(f"{current} up to date")
        if left_alone := len(skipped) - current:
            parts.append(f"{left_alone} there already and left alone (--overwrite replaces them)")
        if failed := self.count("failed"):
            parts.append(f"{failed} failed")
        lines = [*self.failures(), ", ".join(parts), *self.fallbacks()]
        notes = [f"{_files(count)}: {note}" for note, count in self.notes().items()]
        lines += notes[:_NOTES_SHOWN]
        if len(notes) > _NOTES_SHOWN:
            lines.append(f"{len(notes) - _NOTES_SHOWN} more notes, which --json has")
        if offset := offset_told(self.files):
            lines.append(offset)
        if doubts := doubtful(self.files):
            lines.append(doubts)
        if self.stopped:
            kept = "; what is finished stays, --skip-existing does the rest" if self.manifest else ""
            lines.append(f"stopped with {_files(self.left)} to do{kept}")
        return lines

    def failures(self) -> list[str]:
        """Return a line for each reason with the names of some of its files; for a few files, the lines as they are."""
        failed = [file for file in self.files if file.status == "failed"]
        if len(failed) <= _REASONS_SHOWN:
            return [f"failed: {file.error}" for file in failed]
        groups: dict[str, list[FileResult]] = {}
        for file in failed:
            groups.setdefault(_kind(file.reason()), []).append(file)
        largest = sorted(groups.values(), key=len, reverse=True)
        lines = []
        for group in largest[:_REASONS_SHOWN]:
            lines.append(f"failed: {_files(len(group))}: {group[0].reason()} ({_names(group)})")
        if rest := largest[_REASONS_SHOWN:]:
            lines.append(f"failed: {_files(sum(map(len, rest)))} for {len(rest)} other reasons")
        if self.manifest:
            lines.append(f"all of them, with reasons: {shown(self.manifest)}")
        return lines

    def fallbacks(self) -> list[str]:
        """Return a line for each reason why raw files were developed and denoised as pictures, with some names."""
        groups: dict[str, list[FileResult]] = {}
        for file in self.files:
            if file.fallback is not None and file.status == "ok":
                groups.setdefault(_kind(file.fallback), []).append(file)
        return [
            f"{_files(len(group), 'raw file')} developed and denoised by {group[0].model}, not {RAWS}: "
            f"{group[0].fallback} ({_names(group)})"
            for group in sorted(groups.values(), key=len, reverse=True)[:_REASONS_SHOWN]
        ]

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form: files, ok, failed, skipped, stopped, left, manifest."""
        return {
            "files": [asdict(file) for file in self.files],
            "ok": self.count("ok"),
            "failed": self.count("failed"),
            "skipped": self.count("skipped"),
            "stopped": self.stopped,
            "left": self.left,
            "manifest": self.manifest,
        }


def _files(count: int, what: str = "file") -> str:
    return f"1 {what}" if count == 1 else f"{count} {what}s"


def _names(group: Sequence[FileResult]) -> str:
    names = ", ".join(shown(Path(file.source).name) for file in group[:_NAMES_SHOWN])
    return f"{names} and {len(group) - _NAMES_SHOWN} more" if len(group) > _NAMES_SHOWN else names


def _kind(reason: str) -> str:
    """A reason without its numbers and quotations: two truncated files are of one kind."""
    return re.sub(r"\(.*\)", "", re.sub(r"\d+", "0", reason))
