"""Scores rounded to fewer distinct values, so that counts of them take little memory."""

from __future__ import annotations

import numpy as np

DIGITS = 16  # binary digits after the leading one; neighbours then differ by at most 1.6e-5 of each


def rounded(scores: np.ndarray) -> np.ndarray:
    """Round floats towards zero to 17 significant binary digits, which keeps their order.

    Args:
        scores: float32 or float64 ``[N]``, without NaN.

    Returns:
        Likewise.

    Example:
        >>> rounded(np.array([1.0, 1.000001, 1.00002], np.float32))
        array([1.       , 1.       , 1.0000153], dtype=float32)
    """
    dropped = np.finfo(scores.dtype).nmant - DIGITS
    bits = scores.view(f"<u{scores.itemsize}")
    return np.asarray((bits >> dropped << dropped).view(scores.dtype))


def run_lengths(ordered: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The distinct values of ascending ones ``[N]``, and how often each occurs, int64 ``[K]``.

    Example:
        >>> run_lengths(np.array([1.0, 1.0, 3.0]))
        (array([1., 3.]), array([2, 1]))
    """
    starts = first_of_runs(ordered)
    return ordered[starts], np.diff(starts, append=len(ordered))


def totals(keys: tuple[np.ndarray, ...], *weights: np.ndarray) -> tuple[np.ndarray, ...]:
    """Add up the weights of equal keys.

    Args:
        keys: arrays ``[N]``, which together are the key; the result is sorted by the first one.
        weights: arrays ``[N]``.

    Returns:
        The arrays of the K distinct keys, then the sums of each of the weights, all ``[K]``.

    Example:
        >>> totals((np.array([3.0, 1.0, 3.0]),), np.array([1, 10, 100]))
        (array([1., 3.]), array([ 10, 101]))
    """
    order = np.lexsort(keys[::-1])
    ordered = [key[order] for key in keys]
    starts = first_of_runs(*ordered)
    if not len(starts):
        return (*keys, *weights)
    sums = [np.add.reduceat(each[order], starts) for each in weights]
    return (*(key[starts] for key in ordered), *sums)


def first_of_runs(*ordered: np.ndarray) -> np.ndarray:
    """The indices at which any of several arrays ``[N]`` differs from the entry before."""
    first = np.zeros(len(ordered[0]), dtype=bool)
    first[:1] = True
    for each in ordered:
        first[1:] |= each[1:] != each[:-1]
    return np.flatnonzero(first)
