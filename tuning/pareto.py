"""What no other beats in everything."""

from __future__ import annotations

from collections.abc import Sequence


def front(points: Sequence[tuple[float, ...]]) -> list[int]:
    """Return the numbers of the points that no other one dominates, by their first value.

    One dominates another if it is at least as good in everything and better in something; smaller is better.
    """
    kept = [
        index
        for index, point in enumerate(points)
        if not any(other != point and all(a <= b for a, b in zip(other, point, strict=True)) for other in points)
    ]
    return sorted(kept, key=lambda index: points[index])
