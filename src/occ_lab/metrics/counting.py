"""How many scores lie below or above others."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from occ_lab.metrics.packing import unpack
from occ_lab.metrics.rounding import first_of_runs


def count_packed(
    scores: np.ndarray,
    lows: Sequence[np.ndarray],
    heads: Sequence[np.ndarray],
    runs: Sequence[np.ndarray],
    *,
    at_once: int,
) -> list[np.ndarray]:
    """The numbers of packed floats below, and at or below, each of the sorted scores ``[n]``.

    Args:
        scores: ascending, ``[n]``.
        lows: of each piece, as `pack` returns it.
        heads: likewise.
        runs: likewise.
        at_once: pieces are unpacked together until their lower halves have this many bytes.

    Example:
        >>> from occ_lab.metrics.packing import pack
        >>> packed = pack(np.array([1.0, 2.0, 2.0], np.float32))
        >>> count_packed(np.array([2.0], np.float32), *([part] for part in packed), at_once=2**24)
        [array([1]), array([3])]
    """
    below = np.zeros(len(scores), dtype=np.int64)
    up_to = np.zeros(len(scores), dtype=np.int64)
    for block in _pieces([len(each) for each in lows], at_once):
        negatives = unpack(*(np.concatenate(part[block]) for part in (lows, heads, runs)))
        if not len(negatives):
            continue
        negatives.sort()  # fast, because it consists of sorted pieces
        left = np.searchsorted(negatives, scores, side="left")
        below += left
        up_to += left
        tied = negatives[np.minimum(left, len(negatives) - 1)] == scores  # few, usually
        right = np.searchsorted(negatives, scores[tied], side="right")
        up_to[tied] += right - left[tied]
    return [below, up_to]


def count_distinct(
    scores: np.ndarray, negatives: np.ndarray, *counts: np.ndarray
) -> list[list[np.ndarray]]:
    """The numbers of floats below, and at or below, each of the sorted scores ``[n]``.

    Args:
        scores: ascending, ``[n]``.
        negatives: the distinct floats, ascending, ``[N]``.
        counts: how often each of them occurs, ``[N]``; several are counted apart.

    Example:
        >>> count_distinct(np.array([2.0]), np.array([1.0, 2.0]), np.array([1, 2]))
        [[array([1]), array([3])]]
    """
    upwards = [np.concatenate([[0], each.cumsum()]) for each in counts]
    sides = [np.searchsorted(negatives, scores, side) for side in ("left", "right")]
    return [[each[side] for side in sides] for each in upwards]


def reached(ordered: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """The total of the counts at or above each of ascending scores ``[n]``, int64 ``[n]``.

    Example:
        >>> reached(np.array([1.0, 2.0, 2.0, 5.0]), np.array([1, 1, 3, 1]))
        array([6, 5, 5, 1])
    """
    starts = first_of_runs(ordered)
    if not len(starts):
        return np.zeros(0, np.int64)
    of_runs = np.add.reduceat(counts, starts)[::-1].cumsum()[::-1]
    return np.repeat(of_runs, np.diff(starts, append=len(ordered)))


def _pieces(sizes: list[int], at_least: int) -> Iterator[slice]:
    """Slices of consecutive pieces with a total of at least ``at_least`` each, except the last."""
    start = total = 0
    for stop, size in enumerate(sizes, 1):
        total += size
        if total >= at_least or stop == len(sizes):
            yield slice(start, stop)
            start, total = stop, 0
