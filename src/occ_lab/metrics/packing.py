"""Lossless storage of many floats in half of their size."""

from __future__ import annotations

import numpy as np


def pack(ordered: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Store sorted floats without loss in about half of their size.

    Sorted neighbours share their sign, exponent and leading digits, which are the upper half of
    their bits. The upper half is stored once for each run of equal ones, and the lower half for
    every float.

    Args:
        ordered: float32 or float64 ``[N]``, ascending, without NaN.

    Returns:
        The lower halves, as bytes ``[N · itemsize / 2]``, which every process group can gather;
        the first score of each run ``[R]``; the length of each run, int32 ``[R]``.

    Example:
        >>> scores = np.array([0.25, 0.5, 0.5000001], np.float32)
        >>> lows, heads, runs = pack(scores)
        >>> lows.nbytes, heads.tolist(), runs.tolist()
        (6, [0.25, 0.5], [1, 2])
        >>> bool((unpack(lows, heads, runs) == scores).all())
        True
    """
    halves = _halves(ordered)
    starts_run = np.ones(len(ordered), dtype=bool)
    starts_run[1:] = halves[1:, 1] != halves[:-1, 1]
    starts = np.flatnonzero(starts_run)
    lows = np.ascontiguousarray(halves[:, 0]).view(np.uint8)
    runs = np.diff(starts, append=len(ordered)).astype(np.int32)
    return lows, ordered[starts], runs


def unpack(lows: np.ndarray, heads: np.ndarray, runs: np.ndarray) -> np.ndarray:
    """Undo `pack`; the results of several calls may be concatenated.

    Returns:
        The floats ``[N]``, sorted within each call.
    """
    scores = np.repeat(heads, runs)
    halves = _halves(scores)
    halves[:, 0] = lows.view(halves.dtype)
    return scores


def _halves(scores: np.ndarray) -> np.ndarray:
    """A view of floats ``[N]`` as unsigned halves ``[N, 2]``, the lower one first."""
    return scores.view(f"<u{scores.itemsize // 2}").reshape(-1, 2)
