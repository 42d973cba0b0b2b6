"""Groups of runs that differ only in the seed, and the settings in which groups differ."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean, stdev
from typing import Any

import numpy as np

from occ_lab.reporting.record import NOT_COMPARED
from occ_lab.reporting.report.gather import Run, Task

RANKED_BY = "image_auroc"
# Groups of settings that do not affect the metrics, in addition to `NOT_COMPARED`.
WITHOUT_EFFECT = (
    *("cache.", "explain.", "loader.workers", "loader.eval_batch_size", "logger.", "published."),
)
ABSENT = object()


@dataclass(frozen=True)
class Spread:
    """Mean and sample standard deviation over seeds; the latter is None for a single seed."""

    mean: float
    deviation: float | None


@dataclass(frozen=True)
class Group:
    """Runs that are equal except for the seed (and the category, if each was run by itself).

    Attributes:
        dataset: the name of the dataset.
        method: a description of the method.
        label: the unique name of the group.
        runs: in the order in which they were found.
        tasks: for each task, by name, the results by seed.
        norm: ``loss.norm``, if there is one.
        method_but_norm: ``method`` without ``loss.norm``, which names a curve over norms.
    """

    dataset: str
    method: str
    label: str
    runs: list[Run]
    tasks: dict[str, dict[int, Task]]
    norm: float | None
    method_but_norm: str

    @cached_property
    def seeds(self) -> list[int]:
        """The seeds of all runs."""
        return sorted({run.seed for run in self.runs})

    @cached_property
    def shared(self) -> list[str]:
        """The tasks that every seed has; means are taken over these."""
        return [name for name, results in self.tasks.items() if len(results) == len(self.seeds)]

    @property
    def repeated(self) -> int:
        """The number of runs replaced by newer ones with the same seed and tasks."""
        counted = {id(task) for results in self.tasks.values() for task in results.values()}
        return sum(not counted & {id(task) for task in run.tasks.values()} for run in self.runs)

    def over_seeds(self, metric: str, task: str) -> Spread | None:
        """A metric of one task; None if no run of the group has it."""
        values = [found.metric(metric) for found in self.tasks.get(task, {}).values()]
        return spread([value for value in values if value is not None])

    def overall(self, metric: str) -> Spread | None:
        """The mean over the shared tasks for which all seeds have the metric, with its spread."""
        values = [
            [task.metric(metric) for task in self.tasks[name].values()] for name in self.shared
        ]
        whole = np.array([row for row in values if None not in row], float)  # [tasks, seeds]
        return spread(whole.mean(0).tolist()) if len(whole) else None


def spread(values: Sequence[float]) -> Spread | None:
    """Mean and deviation; None if there are no values."""
    if not values:
        return None
    return Spread(fmean(values), stdev(values) if len(values) > 1 else None)


@dataclass(frozen=True)
class Grouped:
    """All groups, ranked within each dataset, and the keys in which runs differ."""

    groups: list[Group]
    keys: list[str]

    @property
    def datasets(self) -> dict[str, list[Group]]:
        """The groups of each dataset, best first."""
        found: dict[str, list[Group]] = {}
        for group in self.groups:
            found.setdefault(group.dataset, []).append(group)
        return found


def grouped(runs: Sequence[Run]) -> Grouped:
    """Group runs and rank the groups of each dataset by their mean image AUROC."""
    keys = differing_keys(runs)
    parts: dict[tuple[str, str], list[Run]] = {}
    words = {id(run): describe(run, runs, keys) for run in runs}
    for run in runs:
        parts.setdefault((run.header["dataset"], words[id(run)]), []).append(run)
    several = len({dataset for dataset, _ in parts}) > 1
    groups = [
        Group(
            dataset,
            method,
            f"{dataset}: {method}" if several else method,
            members,
            newest(members),
            norm_of(members[0]),
            describe(members[0], runs, {**keys, "loss.norm": set()}),
        )
        for (dataset, method), members in parts.items()
    ]
    groups.sort(key=lambda group: (group.dataset, -score(group)))
    shown = [key for key, where in keys.items() if where]
    return Grouped(groups, shown)


def score(group: Group) -> float:
    """The value that groups are ranked by; groups without it come last."""
    overall = group.overall(RANKED_BY)
    return -1.0 if overall is None else overall.mean


def newest(runs: Iterable[Run]) -> dict[str, dict[int, Task]]:
    """The results of each task by seed; if a seed was run again, the newest ones."""
    tasks: dict[str, dict[int, Task]] = {}
    for run in sorted(runs, key=lambda run: run.written):
        for name, task in run.tasks.items():
            tasks.setdefault(name, {})[run.seed] = task
    return {name: dict(sorted(results.items())) for name, results in tasks.items()}


def norm_of(run: Run) -> float | None:
    """The norm of a run's target, if it has a norm above 0."""
    norm = run.config.get("loss.norm")
    return float(norm) if isinstance(norm, int | float) and norm > 0 else None


def differing_keys(runs: Sequence[Run]) -> dict[str, set[int]]:
    """The keys that describe runs, each with the ids of the runs that it describes.

    A key describes runs of the same loss and backbone if its value differs among them, unless it
    follows from other keys in all of them. A key of the dataset describes runs of the same dataset.
    Runs of different losses are not compared, because they differ in too many keys. A run is also
    described by the settings of its command if other runs have other values.
    """
    found: dict[str, set[int]] = {}
    for family in families(runs, "loss", "backbone"):
        add_differing(found, family, lambda key: not key.startswith("dataset."))
    for family in families(runs, "dataset"):
        add_differing(found, family, lambda key: key.startswith("dataset."))
    for run in runs:
        for key in set_by_command(run):
            if len({compared_value(other, key) for other in runs}) > 1:
                found.setdefault(key, set()).add(id(run))
    order = {key: index for run in runs for index, key in enumerate(run.config)}
    return dict(sorted(found.items(), key=lambda item: (order.get(item[0], 0), item[0])))


def families(runs: Sequence[Run], *names: str) -> list[list[Run]]:
    """Groups of runs that agree in the given fields of their header."""
    found: dict[tuple[str, ...], list[Run]] = {}
    for run in runs:
        found.setdefault(tuple(run.header[name] for name in names), []).append(run)
    return list(found.values())


def add_differing(found: dict[str, set[int]], family: Sequence[Run], wanted: Any) -> None:
    """Add the wanted keys whose values differ within a family."""
    derived = frozenset.intersection(*(run.derived for run in family)) | {"seed"}
    keys = dict.fromkeys(key for run in family for key in run.config)
    for key in keys:
        if key in derived or is_without_effect(key) or not wanted(key):
            continue
        if len({compared_value(run, key) for run in family}) > 1:
            found.setdefault(key, set()).update(id(run) for run in family if key in run.config)


def is_without_effect(key: str) -> bool:
    """Whether a key does not affect the metrics."""
    return key in NOT_COMPARED or key.startswith(WITHOUT_EFFECT)


def set_by_command(run: Run) -> list[str]:
    """Keys of scalar values that the command of a run has set and that may affect its metrics."""
    names = [each.partition("=")[0].lstrip("+~") for each in run.overrides or []]
    return [
        name
        for name in names
        # The folder is left out, because the paths of the images show whether the data differs.
        if name in run.config
        and name not in ("seed", "dataset.root")
        and not is_without_effect(name)
    ]


def compared_value(run: Run, key: str) -> str:
    """A value as text for comparison; a missing value differs from all others."""
    value = run.config.get(key, ABSENT)
    return "" if value is ABSENT else value_text(value)


def value_text(value: Any) -> str:
    """A value as written in a command; 1.0 is the same as 1."""
    if isinstance(value, float) and value.is_integer():
        return f"{value:g}"
    return value if isinstance(value, str) else json.dumps(value, default=str)


def describe(run: Run, runs: Sequence[Run], keys: dict[str, set[int]]) -> str:
    """A description of a run: loss, backbone if there are several, and the values that differ."""
    several = len({each.header["backbone"] for each in runs}) > 1
    parts = [run.header["loss"], *([run.header["backbone"]] if several else [])]
    return " ".join([*parts, *(setting(run, key) for key in keys if id(run) in keys[key])])


def setting(run: Run, key: str) -> str:
    """``key=value``; for a class, the last part of its name."""
    text = value_text(run.config[key])
    return f"{key}={text.rpartition('.')[2]}" if key.endswith("._target_") else f"{key}={text}"
