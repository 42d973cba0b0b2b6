"""The coloured tables of a report: a row a method, a column a task."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from occ_lab.metrics.curves import OperatingPoint, operating_point
from occ_lab.reporting.report.gather import Task
from occ_lab.reporting.report.groups import Group, Grouped, Spread, spread
from occ_lab.reporting.report.tables import spread_text

# From low to high, by cividis, which the colour-blind read too.
STOPS = np.array([(0, 32, 77), (66, 78, 108), (124, 123, 120), (187, 175, 113), (255, 234, 70)])
DARK, LIGHT = (0, 0, 0), (255, 255, 255)


@dataclass(frozen=True)
class Cell:
    """A coloured cell: what it says, large and small, and in which colours."""

    text: str
    small: str
    background: str
    ink: str


@dataclass(frozen=True)
class Matrix:
    """A coloured table.

    Attributes:
        title: what the cells are.
        datasets: name and number of columns of each.
        columns: the tasks of each dataset and, where there are several, ``mean``.
        rows: of each method a cell a column; None where it has no result.
    """

    title: str
    datasets: list[tuple[str, int]]
    columns: list[str]
    rows: list[tuple[str, list[Cell | None]]]


Told = tuple[Spread, str]  # a value and what stands small below it


def metric_matrix(title: str, found: Grouped, metric: str) -> Matrix:
    """The means over seeds of a metric."""

    def of_task(group: Group, task: str) -> Told | None:
        value = group.over_seeds(metric, task)
        return None if value is None else (value, "")

    def overall(group: Group) -> Told | None:
        value = group.overall(metric)
        return None if value is None else (value, "")

    return matrix(title, found, of_task, overall, high_is_good=True)


def escape_matrix(title: str, found: Grouped, rate: float) -> Matrix:
    """The share of abnormal images missed at an overkill rate, the observed one small below it."""

    def told(points: Sequence[OperatingPoint]) -> Told | None:
        escaped = spread([point.escape for point in points])
        observed = np.mean([point.overkill for point in points]) if points else 0
        return None if escaped is None else (escaped, f"at {100 * observed:.1f}")

    def of_task(group: Group, task: str) -> Told | None:
        return told([at_rate(x, rate) for x in group.tasks.get(task, {}).values() if judged(x)])

    def overall(group: Group) -> Told | None:
        tasks = [name for name in group.shared if all(map(judged, group.tasks[name].values()))]
        by_seed = [
            [at_rate(group.tasks[name][seed], rate) for name in tasks] for seed in group.seeds
        ]
        # The mean over tasks of each part, a point a seed.
        return told([OperatingPoint(*np.mean(points, axis=0)) for points in by_seed if points])

    return matrix(title, found, of_task, overall, high_is_good=False)


def at_rate(task: Task, rate: float) -> OperatingPoint:
    """The operating point of one run's task."""
    return operating_point(task.scores, task.labels, rate)


def judged(task: Task) -> bool:
    """Whether a task has both kinds of test images."""
    return len(np.unique(task.labels)) == 2


def matrix(
    title: str,
    found: Grouped,
    of_task: Callable[[Group, str], Told | None],
    overall: Callable[[Group], Told | None],
    high_is_good: bool,
) -> Matrix:
    """Lay out values: rows as the methods are ranked, those of several datasets in one row."""
    columns: list[tuple[str, str | None]] = []  # None: the mean
    datasets = []
    for name, groups in found.datasets.items():
        tasks = sorted({task for group in groups for task in group.tasks})
        own = [(name, task) for task in tasks] + ([(name, None)] if len(tasks) > 1 else [])
        datasets.append((name, len(own)))
        columns += own
    of_method: dict[str, dict[str, Group]] = {}
    for group in found.groups:
        of_method.setdefault(group.method, {})[group.dataset] = group

    def value(groups: dict[str, Group], dataset: str, task: str | None) -> Told | None:
        if dataset not in groups:
            return None
        return overall(groups[dataset]) if task is None else of_task(groups[dataset], task)

    told = {
        method: [value(groups, *column) for column in columns]
        for method, groups in of_method.items()
    }
    means = [each[0].mean for row in told.values() for each in row if each is not None]
    scale = (min(means, default=0), max(means, default=1))
    rows = [
        (method, [each and coloured(*each, scale, high_is_good) for each in row])
        for method, row in told.items()
    ]
    return Matrix(title, datasets, [task or "mean" for _, task in columns], rows)


def coloured(value: Spread, small: str, scale: tuple[float, float], high_is_good: bool) -> Cell:
    """A cell, its colour by where its value lies in the scale; bright is good."""
    low, high = scale
    share = (value.mean - low) / (high - low) if high > low else 1.0
    background = colour(share if high_is_good else 1 - share if high > low else 1.0)
    ink = max((DARK, LIGHT), key=lambda candidate: contrast(candidate, background))
    return Cell(spread_text(value), small, css(background), css(ink))


def colour(share: float) -> tuple[int, ...]:
    """A colour of the scale, sRGB in 0..255, for a share in 0..1."""
    places = np.linspace(0, 1, len(STOPS))
    return tuple(round(float(np.interp(share, places, channel))) for channel in STOPS.T)


def contrast(one: Sequence[int], other: Sequence[int]) -> float:
    """Contrast ratio of two colours, 1..21 (WCAG 2.1)."""
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def luminance(rgb: Sequence[int]) -> float:
    """Relative luminance in 0..1 (WCAG 2.1)."""
    shares = np.array(rgb) / 255
    linear = np.where(shares <= 0.04045, shares / 12.92, ((shares + 0.055) / 1.055) ** 2.4)
    return float(linear @ (0.2126, 0.7152, 0.0722))


def css(rgb: Sequence[int]) -> str:
    """A colour as a style sheet has it."""
    return "#" + "".join(f"{channel:02x}" for channel in rgb)
