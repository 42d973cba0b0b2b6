"""Methods ranked over tasks, as the drawing of a critical difference."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from occ_lab.metrics.ranks import Ranks
from occ_lab.reporting.report.groups import RANKED_BY, Grouped
from occ_lab.reporting.report.tables import p_text

METHODS, TASKS = 3, 5  # with fewer of either, the test can hardly find a difference
WIDTH = 400  # of the drawing


@dataclass(frozen=True)
class RankRow:
    """A method, its mean rank, and where its bar lies in a drawing of `WIDTH`."""

    method: str
    rank: float
    x: float
    low: float
    width: float


@dataclass(frozen=True)
class RankTable:
    """Methods by mean rank.

    Attributes:
        rows: best first.
        ranks: of all methods.
        p: the p-value of Friedman's test, as text.
        tasks: the number of tasks.
        whole: where the whole ranks lie in the drawing.
    """

    rows: list[RankRow]
    ranks: Ranks
    p: str
    tasks: int
    whole: list[float]


def ranking_over_tasks(found: Grouped) -> RankTable | None:
    """Rank the methods by image AUROC on every task that all of them have.

    Returns:
        None with fewer than three methods or five such tasks.
    """
    by_method: dict[str, dict[tuple[str, str], float]] = {}
    for group in found.groups:
        for task in group.tasks:
            if value := group.over_seeds(RANKED_BY, task):
                by_method.setdefault(group.method, {})[group.dataset, task] = value.mean
    if len(by_method) < METHODS:
        return None
    shared = sorted(set.intersection(*map(set, by_method.values())))
    if len(shared) < TASKS:
        return None
    values = np.array([[figures[task] for task in shared] for figures in by_method.values()])
    ranks = Ranks.of(values)
    half = ranks.critical / 2
    low, high = 1 - half, len(by_method) + half

    def place(rank: float) -> float:
        return round(WIDTH * (rank - low) / (high - low), 2)

    width = round(place(1 + half) - place(1 - half), 2)
    rows = [
        RankRow(method, rank, place(rank), place(rank - half), width)
        for rank, method in sorted(zip(ranks.means.tolist(), by_method, strict=True))
    ]
    p = p_text(ranks.p_value)
    text = p if p.startswith("<") else f"= {p}"
    return RankTable(rows, ranks, text, len(shared), list(map(place, range(1, len(rows) + 1))))
