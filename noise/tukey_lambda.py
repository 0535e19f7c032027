"""The Tukey-lambda distribution, whose one shape parameter sets how long its tails are.

Its quantile function is ``Q(p) = (p^l - (1 - p)^l) / l``, at l = 0 the logistic ``ln(p / (1 - p))``; l = 0.14 is close
to a normal, lower l has longer tails. Wei et al. (CVPR 2020) found read noise in the dark distributed like this.
"""

import math
from typing import Final

import torch
from torch import Tensor

from raw.arrays import accepts_numpy

_SERIES_BELOW: Final = 1e-3
_ZETA: Final = (math.pi**2 / 6, 1.2020569031595942, math.pi**4 / 90, 1.03692775514337)
"""Riemann's zeta at 2, 3, 4, 5."""


@accepts_numpy
def quantile(p: Tensor, shape: float) -> Tensor:
    """``Q(p)`` of scale 1, accurate to rounding at every ``shape``, 0 included.

    Args:
        p: probabilities in [0, 1], any shape, float64 if the tails matter.
        shape: the parameter l.

    Returns:
        The shape and dtype of ``p``.
    """
    return _from_logs(p.log(), torch.log1p(-p), shape)


def variance(shape: float) -> float:
    """Variance at scale 1: ``2 / l^2 (1 / (1 + 2l) - G(l + 1)^2 / G(2l + 2))`` with the gamma function G.

    Raises:
        ValueError: ``shape`` is not above -1/2, where the variance is infinite.
    """
    if not -0.5 < shape < math.inf:
        raise ValueError(f"the variance of a Tukey-lambda distribution needs a shape above -1/2, got {shape}")
    if abs(shape) < _SERIES_BELOW:  # both terms of the closed form tend to 1, and their difference to 0
        terms = (-1.0, 2.0 * shape, -3.5 * shape**2, 6.0 * shape**3)
        log_ratio = sum(zeta * term for zeta, term in zip(_ZETA, terms, strict=True))
        return 2.0 / (1.0 + 2.0 * shape) * -math.expm1(shape**2 * log_ratio) / shape**2 if shape else math.pi**2 / 3
    log_ratio = 2.0 * math.lgamma(1.0 + shape) - math.lgamma(1.0 + 2.0 * shape)
    return 2.0 / (1.0 + 2.0 * shape) * -math.expm1(log_ratio) / shape**2


def sample(
    size: tuple[int, ...], shape: float, generator: torch.Generator, *, dtype: torch.dtype = torch.float32
) -> Tensor:
    """Independent numbers of scale 1.

    The probabilities are drawn in float64 whatever ``dtype``: float32 has none between 0 and 6e-8, nor above 1 - 6e-8,
    which would cut the tails off.

    Returns:
        ``size``, on the device of ``generator``.
    """
    p = torch.rand(size, generator=generator, dtype=torch.float64, device=generator.device)
    p = p.clamp_(min=2.0**-54)  # a draw of 0 would be infinite; the next number is 2^-53
    return _from_logs(p.log().to(dtype), torch.log1p(-p).to(dtype), shape)


def _from_logs(log_p: Tensor, log_q: Tensor, shape: float) -> Tensor:
    """``Q`` from ln p and ln (1 - p); ``expm1`` keeps what a small l would cancel."""
    if shape == 0:
        return log_p - log_q
    return (torch.expm1(shape * log_p) - torch.expm1(shape * log_q)) / shape
