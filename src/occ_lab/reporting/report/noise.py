"""How far a figure of a report can be trusted: what other test images and seeds would change.

The test images of a task are drawn again with replacement, normal and anomalous ones apart, the
same for all runs on the same images (B. Efron, R. Tibshirani, An Introduction to the Bootstrap,
1993). The variance of a mean over seeds is added. Both are taken for normal, which the colours of a
table are coarse enough for; a verdict is that of `occ_lab.metrics.bootstrap`.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from occ_lab.metrics.bootstrap import drawn_counts, resampled_aurocs
from occ_lab.metrics.curves import operating_point
from occ_lab.reporting.report.gather import Task

RESAMPLES = 200
WIDTH = 1.96  # standard deviations: 95 %
# Half of the interval that stands for the choice of images where a run has no figure of each of
# them, as for pixel metrics: one point.
UNKNOWN = 0.01
ESCAPE = "escape"


@dataclass(frozen=True)
class Noise:
    """How a figure varies.

    Attributes:
        drawn: the figure on resampled images, ``[RESAMPLES]``; None where it is not known.
        images: equal for figures on the same images.
        seeds: the variance of a mean over seeds; 0 for one seed, of which it is not known.
    """

    drawn: np.ndarray | None
    images: frozenset[int]
    seeds: float

    @property
    def half(self) -> float:
        """Half of the 95 % interval of the figure."""
        return WIDTH * math.sqrt(variance(self.drawn) + self.seeds)

    def between(self, other: Noise) -> float:
        """Half of the 95 % interval of the difference of two figures.

        Example:
            >>> rng = np.random.default_rng(0)
            >>> a = Noise(rng.normal(0.9, 0.02, RESAMPLES), frozenset([1]), 0.0)
            >>> b = Noise(a.drawn - 0.01, frozenset([1]), 0.0)  # always a point worse
            >>> c = Noise(a.drawn - 0.01, frozenset([2]), 0.0)  # on other images
            >>> round(a.between(b), 3), round(a.between(c), 2)
            (0.0, 0.05)
        """
        if self.drawn is None or other.drawn is None:
            by_image = (UNKNOWN / WIDTH) ** 2
        elif self.images == other.images:
            by_image = variance(self.drawn - other.drawn)
        else:
            by_image = variance(self.drawn) + variance(other.drawn)
        return WIDTH * math.sqrt(by_image + self.seeds + other.seeds)


def variance(drawn: np.ndarray | None) -> float:
    """The sample variance of resampled figures ``[RESAMPLES]``, or the one that stands for it."""
    return (UNKNOWN / WIDTH) ** 2 if drawn is None else float(drawn.var(ddof=1))


def noise_of(tasks: Sequence[Sequence[Task]], metric: str, rate: float = 0.0) -> Noise | None:
    """The noise of the mean of a metric over tasks and seeds.

    Args:
        tasks: for each task, its results by seed; all have the metric, and as many seeds.
        metric: one of a ``metrics.json``, or `ESCAPE`.
        rate: of `ESCAPE`, the false-positive rate in 0..1.

    Returns:
        None if there is no result.
    """
    if not tasks or not tasks[0]:
        return None
    resampled = [[resample(task, metric, rate) for task in seeds] for seeds in tasks]
    values = [
        [escape_of(task, rate) if metric == ESCAPE else task.metric(metric) for task in seeds]
        for seeds in tasks
    ]
    by_seed = np.array(values, float).mean(0)
    known = [each for seeds in resampled for each in seeds if each is not None]
    whole = len(known) == sum(map(len, tasks))
    return Noise(
        np.mean(known, axis=0) if whole else None,
        frozenset(images_of(task) for seeds in tasks for task in seeds),
        float(by_seed.var(ddof=1) / len(by_seed)) if len(by_seed) > 1 else 0.0,
    )


def images_of(task: Task) -> int:
    """A number that is equal for runs on the same test images."""
    names = sorted(zip(task.paths, task.labels.tolist(), strict=True))
    return zlib.crc32(repr(names).encode(errors="backslashreplace"))


def escape_of(task: Task, rate: float) -> float:
    """The miss rate at a false-positive rate."""
    return operating_point(task.scores, task.labels, rate).escape


def resample(task: Task, metric: str, rate: float = 0.0) -> np.ndarray | None:
    """A metric of a task on resampled images, ``[RESAMPLES]``; None if it is not one of images."""
    labels, scores = task.labels, task.scores
    if (not metric.startswith("image_") and metric != ESCAPE) or len(np.unique(labels)) < 2:
        return None
    order = np.array(sorted(range(len(labels)), key=task.paths.__getitem__))  # drawn alike
    labels, scores = labels[order], scores[order]
    rng = np.random.default_rng(images_of(task))
    kinds = [labels == 0, labels == 1]
    normal, anomalous = (drawn_counts(int(kind.sum()), RESAMPLES, rng) for kind in kinds)
    if metric == "image_auroc":
        return resampled_aurocs(scores[kinds[0]], scores[kinds[1]], normal, anomalous)
    counts = np.zeros((RESAMPLES, len(scores)), np.float32)
    counts[:, kinds[0]], counts[:, kinds[1]] = normal, anomalous
    falling = np.argsort(-scores, kind="stable")
    hits, alarms = (np.cumsum((counts * kind)[:, falling], axis=1) for kind in kinds[::-1])
    total = float(kinds[1].sum())
    if metric == ESCAPE:
        most = math.floor(rate * kinds[0].sum() + 1e-9)
        found: np.ndarray = 1 - np.where(alarms <= most, hits, 0).max(1) / total
    elif metric == "image_ap":
        precision = hits / np.maximum(hits + alarms, 1)
        found = (precision * (counts * kinds[1])[:, falling]).sum(1) / total
    else:  # image_f1max
        found = (2 * hits / (hits + alarms + total)).max(1)
    return found
