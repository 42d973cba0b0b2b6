"""The coloured tables of a report: one row for each method, one column for each task."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import matplotlib
import numpy as np
from matplotlib.colors import Normalize, to_hex

from occ_lab.metrics.curves import OperatingPoint, operating_point
from occ_lab.reporting.report.gather import Task
from occ_lab.reporting.report.groups import Group, Grouped, Spread, spread
from occ_lab.reporting.report.tables import spread_text

COLOURS = matplotlib.colormaps["cividis"]  # readable for colour-blind people
DARK, LIGHT = "#000000", "#ffffff"
# The relative luminance at which black and white text have the same contrast (WCAG 2.1).
MIDDLE = 0.05 * 21**0.5 - 0.05


@dataclass(frozen=True)
class Cell:
    """A coloured cell: its large and small text, and its colours as CSS."""

    text: str
    small: str
    background: str
    ink: str


@dataclass(frozen=True)
class Matrix:
    """A coloured table.

    Attributes:
        title: describes the cells.
        datasets: the name of each dataset and its number of columns.
        columns: the tasks of each dataset and, if there are several, ``mean``.
        rows: for each method, one cell for each column; None if it has no result.
    """

    title: str
    datasets: list[tuple[str, int]]
    columns: list[str]
    rows: list[tuple[str, list[Cell | None]]]


Value = tuple[Spread, str]  # with the small text below it


def metric_matrix(title: str, found: Grouped, metric: str) -> Matrix:
    """The means of a metric over seeds."""

    def of_task(group: Group, task: str) -> Value | None:
        value = group.over_seeds(metric, task)
        return None if value is None else (value, "")

    def overall(group: Group) -> Value | None:
        value = group.overall(metric)
        return None if value is None else (value, "")

    return matrix(title, found, of_task, overall, high_is_good=True)


def escape_matrix(title: str, found: Grouped, rate: float) -> Matrix:
    """The miss rates at a false-positive rate, with the observed rate in small print."""

    def value_of(points: Sequence[OperatingPoint]) -> Value | None:
        escaped = spread([point.escape for point in points])
        observed = np.mean([point.overkill for point in points]) if points else 0
        return None if escaped is None else (escaped, f"at {100 * observed:.1f}")

    def of_task(group: Group, task: str) -> Value | None:
        return value_of([at_rate(x, rate) for x in group.tasks.get(task, {}).values() if judged(x)])

    def overall(group: Group) -> Value | None:
        tasks = [name for name in group.shared if all(map(judged, group.tasks[name].values()))]
        by_seed = [
            [at_rate(group.tasks[name][seed], rate) for name in tasks] for seed in group.seeds
        ]
        # The means over tasks, one point for each seed.
        return value_of([OperatingPoint(*np.mean(points, axis=0)) for points in by_seed if points])

    return matrix(title, found, of_task, overall, high_is_good=False)


def at_rate(task: Task, rate: float) -> OperatingPoint:
    """The operating point of a run on a task."""
    return operating_point(task.scores, task.labels, rate)


def judged(task: Task) -> bool:
    """Whether a task has both normal and anomalous test images."""
    return len(np.unique(task.labels)) == 2


def matrix(
    title: str,
    found: Grouped,
    of_task: Callable[[Group, str], Value | None],
    overall: Callable[[Group], Value | None],
    high_is_good: bool,
) -> Matrix:
    """Arrange values: rows in the order of the ranking; a row covers several datasets."""
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

    def value(groups: dict[str, Group], dataset: str, task: str | None) -> Value | None:
        if dataset not in groups:
            return None
        return overall(groups[dataset]) if task is None else of_task(groups[dataset], task)

    values = {
        method: [value(groups, *column) for column in columns]
        for method, groups in of_method.items()
    }
    means = [each[0].mean for row in values.values() for each in row if each is not None]
    scale = Normalize(min(means, default=0), max(means, default=1))
    rows = [
        (method, [each and coloured(*each, scale, high_is_good) for each in row])
        for method, row in values.items()
    ]
    return Matrix(title, datasets, [task or "mean" for _, task in columns], rows)


def coloured(value: Spread, small: str, scale: Normalize, high_is_good: bool) -> Cell:
    """A cell whose colour shows the position of its value in the scale; bright is good."""
    fraction = float(scale(value.mean)) if scale.vmax != scale.vmin else float(high_is_good)
    background = COLOURS(fraction if high_is_good else 1 - fraction)
    ink = DARK if luminance(background[:3]) > MIDDLE else LIGHT
    return Cell(spread_text(value), small, to_hex(background), ink)


def luminance(rgb: Sequence[float]) -> float:
    """The relative luminance in 0..1 of a colour in 0..1 (WCAG 2.1)."""
    channels = np.array(rgb)
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return float(linear @ (0.2126, 0.7152, 0.0722))
