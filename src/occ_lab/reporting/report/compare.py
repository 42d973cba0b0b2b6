"""Comparison of groups with a baseline, on the test images that both have."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from occ_lab.metrics.bootstrap import Difference, PairedTask, paired_difference
from occ_lab.metrics.significance import delong_p_value, holm
from occ_lab.reporting.report.gather import Task
from occ_lab.reporting.report.groups import Group, Grouped
from occ_lab.utils.errors import InputError


@dataclass(frozen=True)
class Comparison:
    """A group compared with the baseline of its dataset.

    Attributes:
        group: the group.
        baseline: the baseline; for the baseline itself, the same object.
        tasks: the number of tasks with normal and anomalous images in common.
        images: the number of test images in common in these tasks.
        difference: of the image AUROC; None for the baseline itself, or without a common task.
        p_value: of this difference by DeLong's test, adjusted by Holm's procedure for all groups
            that are compared with the baseline; NaN without a difference.
    """

    group: Group
    baseline: Group
    tasks: int = 0
    images: int = 0
    difference: Difference | None = None
    p_value: float = math.nan


def choose_baselines(found: Grouped, text: str | None) -> dict[str, tuple[Group, str]]:
    """The baseline of each dataset, and how it was chosen.

    Args:
        found: all groups.
        text: the label of a group, a run directory, or a part of one; None is the first-ranked.

    Raises:
        InputError: no group matches ``text``.
    """
    first = {name: (groups[0], "the first-ranked") for name, groups in found.datasets.items()}
    if text is None:
        return first
    named = {
        name: (matching(groups, text)[0], f"named by --baseline {text}")
        for name, groups in found.datasets.items()
        if matching(groups, text)
    }
    if not named:
        labels = "\n  ".join(group.label for group in found.groups)
        raise InputError(f"--baseline: nothing matches {text!r}; the groups are\n  {labels}")
    unnamed = f"the first-ranked: nothing here matches --baseline {text}"
    return {name: named.get(name, (group, unnamed)) for name, (group, _) in first.items()}


def matching(groups: Sequence[Group], text: str) -> list[Group]:
    """The groups with a label or directory equal to ``text``, otherwise those that contain it."""
    names = [
        [group.label, group.method, *(str(run.directory) for run in group.runs)] for group in groups
    ]
    exact = [group for group, own in zip(groups, names, strict=True) if text in own]
    return exact or [
        group for group, own in zip(groups, names, strict=True) if any(text in name for name in own)
    ]


def compare(group: Group, baseline: Group, resamples: int, seed: int) -> Comparison:
    """The difference of image AUROCs, over common tasks and images that all runs have.

    Its p-value is not adjusted yet.
    """
    if group is baseline:
        return Comparison(group, baseline)
    pairs = [
        paired(list(group.tasks[name].values()), list(baseline.tasks[name].values()))
        for name in group.shared
        if name in baseline.shared
    ]
    tasks = [pair for pair in pairs if pair is not None]
    if not tasks:
        return Comparison(group, baseline)
    images = sum(len(task.labels) for task in tasks)
    difference = paired_difference(tasks, resamples, seed)
    return Comparison(group, baseline, len(tasks), images, difference, delong_p_value(tasks))


def paired(ours: Sequence[Task], theirs: Sequence[Task]) -> PairedTask | None:
    """The scores of all runs on the images that they have in common.

    Images are considered equal if their paths and labels are.

    Returns:
        None unless there are both normal and anomalous images.
    """
    both = [*ours, *theirs]
    first = both[0]
    if all(each.paths == first.paths and (each.labels == first.labels).all() for each in both):
        labels, rows = first.labels, [each.scores for each in both]
    else:
        scores = [
            dict(zip(zip(each.paths, each.labels.tolist(), strict=True), each.scores, strict=True))
            for each in both
        ]
        common = sorted(set.intersection(*map(set, scores)))
        labels = np.array([label for _, label in common], int)
        rows = [np.array([table[image] for image in common]) for table in scores]
    if len(np.unique(labels)) < 2:
        return None
    return PairedTask(labels, np.stack(rows[: len(ours)]), np.stack(rows[len(ours) :]))


def all_comparisons(
    found: Grouped, baselines: dict[str, tuple[Group, str]], resamples: int, seed: int
) -> list[Comparison]:
    """Each group compared with its baseline, in the order of the ranking."""
    comparisons: list[Comparison] = []
    for name, groups in found.datasets.items():
        own = [compare(group, baselines[name][0], resamples, seed) for group in groups]
        adjusted = holm([each.p_value for each in own])
        comparisons += [replace(each, p_value=p) for each, p in zip(own, adjusted, strict=True)]
    return comparisons
