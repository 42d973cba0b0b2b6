"""What an anomalous pixel contributes to a metric, by the numbers of pixels that score higher.

A pixel raises a curve over the false-positive rate: linearly between the number of false positives
above its score and the number at or above it, a straight line through ties. An area below the curve
is therefore a mean over the anomalous pixels, each of which only needs two counts of normal pixels.
The curve itself is never built.
"""

from __future__ import annotations

import numpy as np


def area_up_to(start: np.ndarray, end: np.ndarray, limit: float) -> np.ndarray:
    """The mean from 0 to ``limit`` of a line that rises from 0 at ``start`` to 1 at ``end``.

    Args:
        start: whole numbers ``[n]``, at least 0.
        end: likewise, at least ``start``; if they are equal, the line is a step.
        limit: above 0.

    Returns:
        float64 ``[n]`` in 0..1.

    Example:
        >>> area_up_to(np.array([0, 2, 1]), np.array([0, 4, 9]), 4.0)
        array([1.      , 0.25    , 0.140625])
    """
    climbed = np.clip(limit - start, 0, end - start)
    # If start and end are equal, climbed is 0 and the 1 avoids 0 / 0.
    area = np.maximum(limit - end, 0) + climbed**2 / (2 * np.maximum(end - start, 1))
    found: np.ndarray = area / limit
    return found


def log_area(start: np.ndarray, end: np.ndarray, low: float, high: float) -> np.ndarray:
    """As `area_up_to`, from ``low`` to ``high`` on a logarithmic axis.

    Args:
        start: whole numbers ``[n]``, at least 0.
        end: likewise, at least ``start``.
        low: above 0.
        high: above ``low``.

    Returns:
        float64 ``[n]`` in 0..1.

    Example:
        >>> log_area(np.array([0, 10, 30]), np.array([1, 10, 40]), 1.0, 100.0).round(3)
        array([1.   , 0.5  , 0.229])
    """
    first, last = (np.clip(each, low, high) for each in (start, end))
    rise = np.maximum(end - start, 1)
    on_the_line = ((last - first) - start * np.log(last / first)) / rise
    found: np.ndarray = (on_the_line + np.log(high / last)) / np.log(high / low)
    return found
