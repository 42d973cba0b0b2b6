"""The results on each kind of defect: its images against all normal ones of the task."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from occ_lab.data.items import kind_of
from occ_lab.metrics.curves import auroc
from occ_lab.reporting.record import METRICS
from occ_lab.reporting.report.gather import Task
from occ_lab.reporting.report.groups import Group, Grouped, spread
from occ_lab.reporting.report.matrix import Colours, Matrix, Value, best_of, coloured_row
from occ_lab.reporting.report.noise import noise_of
from occ_lab.reporting.tables.results import TITLES


def kinds_of(task: Task) -> dict[str, Task]:
    """For each kind of defect, a task of its images and all normal ones; empty below two kinds.

    Its image AUROC follows from the scores; pixel metrics are those that the run has recorded.
    """
    kinds = np.array(
        [
            kind_of(path) if label else ""
            for path, label in zip(task.paths, task.labels, strict=True)
        ]
    )
    names = sorted({*kinds.tolist()} - {""})
    if len(names) < 2 or task.labels.all():
        return {}
    found = {}
    for name in names:
        own = np.flatnonzero((task.labels == 0) | (kinds == name))
        labels, scores = task.labels[own], task.scores[own]
        recorded = task.figures.get("defects", {}).get(name, {})
        figures = {**recorded, "image_auroc": auroc(scores, labels)}
        found[name] = Task(name, figures, [task.paths[i] for i in own], labels, scores, [])
    return found


def kind_matrices(found: Grouped) -> list[Matrix]:
    """A table for each metric that is known of a kind of defect: a row for each kind.

    A row's best is marked, as the best of a column elsewhere.
    """
    by_method: dict[str, dict[str, Group]] = {}
    for group in found.groups:
        by_method.setdefault(group.method, {})[group.dataset] = group
    results: dict[tuple[str, str, str], dict[str, list[Task]]] = {}
    for group in found.groups:
        for name, seeds in group.tasks.items():
            for task in seeds.values():
                for kind, part in kinds_of(task).items():
                    row = results.setdefault((group.dataset, name, kind), {})
                    row.setdefault(group.method, []).append(part)
    several = len(found.datasets) > 1
    matrices = []
    for metric in METRICS:
        rows = {
            label(key, parts, several): [
                value_of(parts.get(name, []), metric) for name in by_method
            ]
            for key, parts in sorted(results.items())
        }
        rows = {name: values for name, values in rows.items() if any(values)}
        if rows:
            present = [value for values in rows.values() for value in values if value is not None]
            colours = Colours.of(present, high_is_good=True)
            matrices.append(
                Matrix(
                    TITLES[metric],
                    [("method", len(by_method))],
                    list(by_method),
                    [
                        (name, coloured_row(values, [best_of(values, True)] * len(values), colours))
                        for name, values in rows.items()
                    ],
                    colours.key,
                    first="defect",
                )
            )
    return matrices


def label(key: tuple[str, str, str], parts: dict[str, list[Task]], several: bool) -> str:
    """The name of a row: dataset if there are several, task, kind, and its number of images."""
    dataset, task, kind = key
    images = max(int(part.labels.sum()) for tasks in parts.values() for part in tasks)
    return f"{f'{dataset}, ' if several else ''}{task}: {kind} ({images})"


def value_of(parts: Sequence[Task], metric: str) -> Value | None:
    """The mean of a metric over seeds; None if it is not known."""
    having = [part for part in parts if part.metric(metric) is not None]
    value = spread([part.figures[metric] for part in having])
    noise = noise_of([having], metric)
    return Value(value, "", noise) if value and noise else None
