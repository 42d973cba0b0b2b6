"""Exponents of growth."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

UPPER = 3  # sizes that a fit goes by


class Exponent(NamedTuple):
    """The exponent k of y ∝ xᵏ, and its standard error (NaN for two points)."""

    value: float
    error: float


def exponent(sizes: Sequence[float], values: Sequence[float]) -> Exponent:
    """Fit a line to logarithms by least squares, for the `UPPER` largest sizes.

    Args:
        sizes: ascending, at least two.
        values: above 0.

    Example:
        >>> found = exponent([1, 10, 20, 40], [5, 100, 400, 1600])
        >>> round(found.value, 6), round(found.error, 6)
        (2.0, 0.0)
    """
    x, y = (np.log(np.asarray(each[-UPPER:], float)) for each in (sizes, values))
    apart = x - x.mean()
    slope = float(apart @ y / (apart @ apart))
    left = y - y.mean() - slope * apart
    degrees = len(x) - 2
    error = float(np.sqrt(left @ left / degrees / (apart @ apart))) if degrees else float("nan")
    return Exponent(slope, error)
