"""Axes of a search: independent of each other, so that any search algorithm can sample them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

Point = dict[str, Any]
"""One value for each axis."""


@dataclass(frozen=True, slots=True)
class Uniform:
    """A number between two bounds."""

    size: ClassVar[None] = None
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class LogUniform:
    """A positive number between two bounds, of which every factor is as likely."""

    size: ClassVar[None] = None
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Choice:
    """One of a few values."""

    values: tuple[int | str, ...]

    @property
    def size(self) -> int:
        """How many values there are."""
        return len(self.values)


Axis = Uniform | LogUniform | Choice
