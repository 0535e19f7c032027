"""Ranges (lowest, highest) that one number per image is drawn from."""

import math

import torch


def check_range(
    name: str,
    values: tuple[float, float],
    *,
    least: float = 0.0,
    highest: float = math.inf,
    above_zero: bool = False,
) -> None:
    """Refuse a range that is not ``least <= lowest <= highest <= limit``.

    Args:
        name: of the field, with which the message begins.
        values: (lowest, highest).
        least: what the lowest may be.
        highest: the limit; infinity itself is never in range.
        above_zero: refuse 0 as well.

    Raises:
        ValueError: the range is out of its limits or not a number.
    """
    low, top = values
    good = least <= low <= top <= highest and top < math.inf and not (above_zero and low == 0)
    if not good:  # NaN fails every comparison
        sign = "<" if above_zero else "<="
        limit = "" if highest == math.inf else f" <= {highest:g}"
        raise ValueError(f"{name} must be a range {least:g} {sign} lowest <= highest{limit}, got {values}")


def draw_uniform(values: tuple[float, float], generator: torch.Generator) -> float:
    """Draw one number uniformly between the ends; equal ends take a draw too, so that the stream stays the same."""
    low, high = values
    uniform = torch.rand((), generator=generator, dtype=torch.float64, device=generator.device).item()
    return low + (high - low) * uniform


def draw_log_uniform(values: tuple[float, float], generator: torch.Generator) -> float:
    """Draw one number evenly by factors between the ends, which are above 0; takes one draw as `draw_uniform` does."""
    return math.exp(draw_uniform((math.log(values[0]), math.log(values[1])), generator))
