"""The coloured tables of a report: one row for each method, one column for each task.

Colours must not make noise look like a result. Two rules see to that:

1. What cannot be distinguished from the best of its column, by the 95 % interval of the difference
   over test images and seeds (`occ_lab.reporting.report.noise`), has the colour of the best.
2. The scale of a table spans at least `SPAN` times the median half interval of its cells, from the
   best value on. A difference within the interval therefore changes a colour little.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import matplotlib
import numpy as np
from matplotlib.colors import to_hex

from occ_lab.metrics.curves import OperatingPoint, operating_point
from occ_lab.reporting.report.gather import Task
from occ_lab.reporting.report.groups import Group, Grouped, Spread, spread
from occ_lab.reporting.report.noise import ESCAPE, Noise, noise_of
from occ_lab.reporting.report.tables import spread_text

COLOURS = matplotlib.colormaps["cividis"]  # readable for colour-blind people
DARK, LIGHT = "#000000", "#ffffff"
SPAN = 8
STOPS = 9  # of the key to the colours
# The relative luminance at which black and white text have the same contrast (WCAG 2.1).
MIDDLE = 0.05 * 21**0.5 - 0.05


@dataclass(frozen=True)
class Cell:
    """A coloured cell: its large and small text, and its colours as CSS.

    Attributes:
        best: whether it cannot be distinguished from the best of its column.
    """

    text: str
    small: str
    background: str
    ink: str
    best: bool


@dataclass(frozen=True)
class Value:
    """What a cell shows, with a small text below it, and how far it can be trusted."""

    spread: Spread
    small: str
    noise: Noise


@dataclass(frozen=True)
class Colours:
    """Which values have which colours; bright is good.

    Attributes:
        worst: the value of the darkest colour.
        best: the value of the brightest.
    """

    worst: float
    best: float

    @classmethod
    def of(cls, values: Sequence[Value], high_is_good: bool) -> Colours:
        """The colours of all values of a table, by the second rule of this module.

        Example:
            >>> noise = Noise(None, frozenset(), 0.0)  # a point
            >>> values = [Value(Spread(value, None), "", noise) for value in (0.90, 0.91)]
            >>> colours = Colours.of(values, high_is_good=True)
            >>> round(colours.worst, 2), colours.best
            (0.83, 0.91)
        """
        means = [value.spread.mean for value in values] or [1.0]
        least = SPAN * float(np.median([value.noise.half for value in values] or [0.0]))
        if high_is_good:
            return cls(min(*means, max(means) - least), max(means))
        return cls(max(*means, min(means) + least), min(means))

    def rgb(self, value: float) -> tuple[float, float, float]:
        """The colour of a value, in 0..1."""
        reach = self.best - self.worst
        red, green, blue, _ = COLOURS((value - self.worst) / reach if reach else 1.0)
        return red, green, blue

    @property
    def key(self) -> list[tuple[str, str]]:
        """Colours as CSS and their values in per cent, from the worst possible to the best."""
        worst = min(1.0, max(0.0, self.worst))
        return [
            (to_hex(self.rgb(value)), f"{100 * value:.0f}")
            for value in np.linspace(worst, self.best, STOPS).tolist()
        ]


@dataclass(frozen=True)
class Matrix:
    """A coloured table.

    Attributes:
        title: describes the cells.
        datasets: the name of each dataset and its number of columns.
        columns: the tasks of each dataset and, if there are several, ``mean``.
        rows: for each method, one cell for each column; None if it has no result.
        key: colours and their values, see `Colours.key`.
        first: the title of the first column.
    """

    title: str
    datasets: list[tuple[str, int]]
    columns: list[str]
    rows: list[tuple[str, list[Cell | None]]]
    key: list[tuple[str, str]]
    first: str = "method"


def metric_matrix(title: str, found: Grouped, metric: str) -> Matrix:
    """The means of a metric over seeds."""

    def having(group: Group, task: str) -> list[Task]:
        results = group.tasks.get(task, {}).values()
        return [each for each in results if each.metric(metric) is not None]

    def of_task(group: Group, task: str) -> Value | None:
        value, noise = group.over_seeds(metric, task), noise_of([having(group, task)], metric)
        return Value(value, "", noise) if value and noise else None

    def overall(group: Group) -> Value | None:
        tasks = [having(group, name) for name in group.shared]
        whole = [results for results in tasks if len(results) == len(group.seeds)]
        value, noise = group.overall(metric), noise_of(whole, metric)
        return Value(value, "", noise) if value and noise else None

    return matrix(title, found, of_task, overall, high_is_good=True)


def escape_matrix(title: str, found: Grouped, rate: float) -> Matrix:
    """The miss rates at a false-positive rate, with the observed rate in small print."""

    def value_of(points: Sequence[OperatingPoint], tasks: list[list[Task]]) -> Value | None:
        escaped, noise = spread([point.escape for point in points]), noise_of(tasks, ESCAPE, rate)
        observed = np.mean([point.overkill for point in points]) if points else 0
        return Value(escaped, f"at {100 * observed:.1f}", noise) if escaped and noise else None

    def of_task(group: Group, task: str) -> Value | None:
        results = [each for each in group.tasks.get(task, {}).values() if judged(each)]
        return value_of([at_rate(each, rate) for each in results], [results])

    def overall(group: Group) -> Value | None:
        tasks = [name for name in group.shared if all(map(judged, group.tasks[name].values()))]
        by_seed = [
            [at_rate(group.tasks[name][seed], rate) for name in tasks] for seed in group.seeds
        ]
        # The means over tasks, one point for each seed.
        means = [OperatingPoint(*np.mean(points, axis=0)) for points in by_seed if points]
        return value_of(means, [list(group.tasks[name].values()) for name in tasks])

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
    present = [each for row in values.values() for each in row if each is not None]
    colours = Colours.of(present, high_is_good)
    best = [best_of(column, high_is_good) for column in zip(*values.values(), strict=True)]
    rows = [(method, coloured_row(row, best, colours)) for method, row in values.items()]
    names = [task or "mean" for _, task in columns]
    return Matrix(title, datasets, names, rows, colours.key)


def best_of(column: Sequence[Value | None], high_is_good: bool) -> Value | None:
    """The best value of a column; None if it has none."""
    present = [value for value in column if value is not None]
    sign = 1 if high_is_good else -1
    return max(present, key=lambda value: sign * value.spread.mean, default=None)


def coloured_row(
    row: Sequence[Value | None], best: Sequence[Value | None], colours: Colours
) -> list[Cell | None]:
    """The cells of a row, each compared with its best."""
    return [
        None if value is None else coloured(value, of, colours)
        for value, of in zip(row, best, strict=True)
    ]


def coloured(value: Value, best: Value | None, colours: Colours) -> Cell:
    """A cell, by the first rule of this module.

    Args:
        value: what it shows.
        best: the best value of those that it is compared with.
        colours: of the table.
    """
    assert best is not None  # the column has this value
    difference = abs(value.spread.mean - best.spread.mean)
    alike = value is best or difference <= value.noise.between(best.noise)
    background = colours.rgb((best if alike else value).spread.mean)
    ink = DARK if luminance(background) > MIDDLE else LIGHT
    return Cell(spread_text(value.spread), value.small, to_hex(background), ink, alike)


def luminance(rgb: Sequence[float]) -> float:
    """The relative luminance in 0..1 of a colour in 0..1 (WCAG 2.1)."""
    channels = np.array(rgb)
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return float(linear @ (0.2126, 0.7152, 0.0722))
