"""Methods ranked over tasks, as the drawing of a critical difference."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from occ_lab.metrics.ranks import Ranks
from occ_lab.reporting.report.groups import RANKED_BY, Grouped
from occ_lab.reporting.report.tables import p_text

METHODS, TASKS = 3, 5  # with fewer of either, the test can hardly find a difference
WIDTH = 400  # of the drawing
TICKS = 10  # at most; more numbers would overlap

Figures = dict[tuple[str, str], float]  # a metric by dataset and task


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
        left_out: methods that lack some of these tasks.
        ticks: some of the ranks 1..M, and where they lie in the drawing.
    """

    rows: list[RankRow]
    ranks: Ranks
    p: str
    tasks: int
    left_out: list[str]
    ticks: list[tuple[int, float]]


def ranking_over_tasks(found: Grouped) -> RankTable | None:
    """Rank the methods by image AUROC on tasks that all of them have, see `most_in_common`.

    Returns:
        None without three methods that have five tasks in common.
    """
    by_method: dict[str, Figures] = {}
    for group in found.groups:
        for task in group.tasks:
            if value := group.over_seeds(RANKED_BY, task):
                by_method.setdefault(group.method, {})[group.dataset, task] = value.mean
    methods, tasks = most_in_common(by_method)
    if not methods:
        return None
    ranks = Ranks.of(np.array([[by_method[name][task] for task in tasks] for name in methods]))
    half = ranks.critical / 2
    low, high = 1 - half, len(methods) + half

    def place(rank: float) -> float:
        return round(WIDTH * (rank - low) / (high - low), 2)

    width = round(place(1 + half) - place(1 - half), 2)
    rows = [
        RankRow(method, rank, place(rank), place(rank - half), width)
        for rank, method in sorted(zip(ranks.means.tolist(), methods, strict=True))
    ]
    p = p_text(ranks.p_value)
    text = p if p.startswith("<") else f"= {p}"
    left_out = [name for name in by_method if name not in methods]
    shown = range(1, len(rows) + 1, math.ceil(len(rows) / TICKS))
    return RankTable(
        rows, ranks, text, len(tasks), left_out, [(rank, place(rank)) for rank in shown]
    )


def most_in_common(
    by_method: dict[str, Figures],
) -> tuple[list[str], list[tuple[str, str]]]:
    """The methods and tasks with the most figures of which none is missing.

    One method of another dataset should not prevent that the others are ranked. The sets of tasks
    considered are those that one method has, two methods share, or all methods share.

    Returns:
        Both empty without `METHODS` methods that have `TASKS` tasks in common.

    Example:
        >>> five = {("textures", name): 0.9 for name in "abcde"}
        >>> by_method = {"knn": five, "norm": five, "cfa": five, "kde": {("mpdd", "x"): 0.9}}
        >>> most_in_common(by_method)[0]
        ['knn', 'norm', 'cfa']
    """
    if len(by_method) < METHODS:
        return [], []
    own = {frozenset(figures) for figures in by_method.values()}
    sets = {one & other for one in own for other in own} | {frozenset.intersection(*own)}
    best: tuple[list[str], list[tuple[str, str]]] = [], []
    for tasks in sorted(sets, key=sorted):
        methods = [name for name, figures in by_method.items() if tasks <= figures.keys()]
        enough = len(methods) >= METHODS and len(tasks) >= TASKS
        if enough and len(methods) * len(tasks) > len(best[0]) * len(best[1]):
            best = methods, sorted(tasks)
    return best
