"""Several entries of the feature cache, read as one."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import TypeAlias

import numpy as np

from occ_lab.features.level_files import Levels


class JoinedLevel:
    """The rows of several arrays, one after another; a copy is made only of the rows that are read.

    Args:
        parts: arrays ``[N_i, ...]`` of one dtype that agree in all but the first dimension; at
            least one.

    Attributes:
        shape: ``(N, ...)``, N the sum of all N_i.
        nbytes: the size of all parts together.

    Example:
        >>> level = JoinedLevel([np.array([[0], [1]]), np.array([[2], [3]])])
        >>> level[np.array([3, 0])].tolist(), level[1:3].tolist(), level.shape
        ([[3], [0]], [[1], [2]], (4, 1))
    """

    def __init__(self, parts: Sequence[np.ndarray]) -> None:
        self.parts = list(parts)
        self.starts = np.array([0, *accumulate(len(part) for part in parts)])
        self.shape: tuple[int, ...] = (int(self.starts[-1]), *parts[0].shape[1:])
        self.nbytes = sum(part.nbytes for part in parts)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: np.ndarray | slice) -> np.ndarray:
        """A copy of some rows, ``[n, ...]``, by their numbers in 0..N-1 or a slice."""
        if isinstance(rows, slice):
            rows = np.arange(*rows.indices(len(self)))
        found = np.empty((len(rows), *self.shape[1:]), self.parts[0].dtype)
        of = np.searchsorted(self.starts, rows, side="right") - 1
        for number in np.unique(of):
            here = of == number
            found[here] = self.parts[number][rows[here] - self.starts[number]]
        return found


Level: TypeAlias = np.ndarray | JoinedLevel


def joined(entries: Sequence[Levels]) -> list[Level]:
    """The levels of several entries as one; those of a single entry as they are.

    Args:
        entries: the levels of each entry, finest first; at least one entry.
    """
    if len(entries) == 1:
        return list(entries[0])
    return [JoinedLevel(parts) for parts in zip(*entries, strict=True)]
