"""Ranks of methods over tasks, and how far apart they must be to differ.

J. Demšar, Statistical Comparisons of Classifiers over Multiple Data Sets, JMLR 7, 2006.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import stats

LEVEL = 0.05


@dataclass(frozen=True)
class Ranks:
    """The mean ranks of M methods over T tasks; 1 is the best.

    Attributes:
        means: ``[M]``, in 1..M.
        p_value: of Friedman's test that all methods are alike, in 0..1.
        critical: mean ranks that are further apart differ by Nemenyi's test at the level 0.05.
    """

    means: np.ndarray
    p_value: float
    critical: float

    @classmethod
    def of(cls, values: np.ndarray) -> Ranks:
        """Rank the methods on each task; equal ones share the mean of their ranks.

        Args:
            values: a metric of each method on each task, ``[M, T]``; higher is better. M is at
                least 3, T at least 2.

        Example:
            >>> found = Ranks.of(np.array([[0.9, 0.8], [0.7, 0.8], [0.5, 0.1]]))
            >>> found.means.tolist(), round(found.critical, 2)
            ([1.25, 1.75, 3.0], 2.34)
        """
        methods, tasks = values.shape
        means = stats.rankdata(-values, axis=0).mean(axis=1)
        differ = bool((values != values[0]).any())
        p_value = float(stats.friedmanchisquare(*values).pvalue) if differ else 1.0
        return cls(means, p_value, critical_difference(methods, tasks))


def critical_difference(methods: int, tasks: int) -> float:
    """The difference of mean ranks that Nemenyi's test requires at the level 0.05.

    ``q √(M (M + 1) / 6 T)``, with q the quantile of the studentized range over √2 (section 3.2.2 of
    Demšar 2006).

    Args:
        methods: M, at least 2.
        tasks: T, at least 1.

    Example:
        >>> round(critical_difference(methods=5, tasks=30), 3)  # 2.728 in table 5
        1.114
    """
    q = stats.studentized_range.ppf(1 - LEVEL, methods, np.inf) / math.sqrt(2)
    return float(q * math.sqrt(methods * (methods + 1) / (6 * tasks)))
