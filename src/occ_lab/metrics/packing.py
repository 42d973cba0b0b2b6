"""Many floats in half their size, exactly."""

from __future__ import annotations

import numpy as np


def pack(scores: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sorts floats and keeps them, exactly, in half their size.

    Sorted neighbours agree in sign, exponent and leading digits, which is the upper half of their
    bits. So that half is kept once a run, and the lower half of every score.

    Returns:
        The lower halves, as bytes ``[N · itemsize / 2]`` (what every process group can gather);
        the first score of each run ``[R]``; the length of each run, int32 ``[R]``.
    """
    scores = np.sort(scores)
    halves = _halves(scores)
    starts_run = np.ones(len(scores), dtype=bool)
    starts_run[1:] = halves[1:, 1] != halves[:-1, 1]
    starts = np.flatnonzero(starts_run)
    lows = np.ascontiguousarray(halves[:, 0]).view(np.uint8)
    runs = np.diff(starts, append=len(scores)).astype(np.int32)
    return lows, scores[starts], runs


def unpack(lows: np.ndarray, heads: np.ndarray, runs: np.ndarray) -> np.ndarray:
    """Undoes `pack`; what several calls packed may come concatenated."""
    scores = np.repeat(heads, runs)
    halves = _halves(scores)
    halves[:, 0] = lows.view(halves.dtype)
    return scores


def _halves(scores: np.ndarray) -> np.ndarray:
    """A view of floats ``[N]`` as unsigned halves ``[N, 2]``, the lower one first."""
    return scores.view(f"<u{scores.itemsize // 2}").reshape(-1, 2)
