"""What is found about a submission: why its server would refuse it, and what looks wrong although it would not."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from pipeline.data.blocks import Blocks
from pipeline.data.images import to_float

_SHOWN: Final = 5
"""Of many reasons the first ones are told."""

_DARK: Final = 4 / 255
"""A submission whose brightest value is below it was not scaled to the range of its type."""

_APART: Final = 16 / 255
"""Noise does not move the mean of a block by more; another block's mean usually is further off."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """What was found about one submission."""

    path: Path
    kind: str
    """What it is, in words."""

    problems: tuple[str, ...]
    """Why the server would refuse it, one line each; empty if it would take it."""

    warnings: tuple[str, ...] = ()
    """What the server would take, and score badly."""

    upload: str = ""
    """Where it goes."""

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        values = {name: list(getattr(self, name)) for name in ("problems", "warnings")}
        return {
            "path": str(self.path),
            "kind": self.kind,
            "accepted": not self.problems,
            **values,
            "upload": self.upload,
        }


class Comparison:
    """What a submission looks like beside the noisy data, and by itself."""

    def __init__(self, noisy: Blocks | None) -> None:
        self.noisy = noisy
        self.brightest = -1.0
        self.compared = self.equal = 0
        self.apart: list[str] = []

    def add(self, index: int, block: NDArray[Any]) -> None:
        """Look at a block of SIDD, of any type."""
        scaled = to_float(block) if block.dtype == np.uint8 else block.astype(np.float32)
        if self.noisy is not None and index < len(self.noisy) and self.noisy.shape[2:] == block.shape:
            self.compare(f"block {index}", scaled, to_float(self.noisy.block(index)))
        self.brightest = max(self.brightest, float(scaled.max(initial=0)))

    def compare(self, name: str, crop: NDArray[np.float32], noisy: NDArray[np.float32]) -> None:
        """Hold a denoised part, float32 in [0, 1], against the noisy one."""
        self.brightest = max(self.brightest, float(crop.max(initial=0)))
        self.compared += 1
        self.equal += bool(np.abs(crop - noisy).max() < 0.5 / 255)
        if abs(float(crop.mean()) - float(noisy.mean())) > _APART:
            self.apart.append(name)

    def told(self) -> tuple[str, ...]:
        """Return what is suspicious, one line each."""
        lines = []
        if 0 <= self.brightest < _DARK:
            lines.append(f"no value is above {self.brightest:.4f} of white: were they scaled to the range of the type?")
        if self.compared and self.equal == self.compared:
            lines.append("equal to the noisy data: nothing was denoised")
        if self.apart:
            lines.append(
                f"{len(self.apart)} of {self.compared} are brighter or darker than their noisy partners by more than "
                f"16 grey levels, the first {self.apart[0]}: is the order right?"
            )
        return tuple(lines)


def few(problems: list[str]) -> tuple[str, ...]:
    """Return the first few reasons, and how many more there are."""
    more = [f"and {len(problems) - _SHOWN} more"] if len(problems) > _SHOWN else []
    return (*problems[:_SHOWN], *more)
