"""Bootstrap intervals of image AUROCs, and of paired differences between them.

B. Efron, R. Tibshirani, An Introduction to the Bootstrap, 1993, chapters 10 and 13: images are
resampled with replacement, and the interval contains the middle 95 % of the resampled values.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from occ_lab.metrics.curves import auroc

if TYPE_CHECKING:
    from typing_extensions import Self

RESAMPLES = 2000
LEVEL = 0.95
AT_ONCE = 2**22  # counts that are held in memory at once: 32 MB


@dataclass(frozen=True)
class PairedTask:
    """The scores of two groups of runs on the same N test images of one task.

    Attributes:
        labels: ``[N]``, 1 anomalous; both classes are present.
        ours: ``[S, N]``, one row for each seed.
        theirs: ``[T, N]``, likewise.
    """

    labels: np.ndarray
    ours: np.ndarray
    theirs: np.ndarray


@dataclass(frozen=True)
class ScoredTask:
    """The scores of M methods on the same N test images of one task.

    Attributes:
        labels: ``[N]``, 1 anomalous; both classes are present.
        scores: ``[M, N]``, one row for each method.
    """

    labels: np.ndarray
    scores: np.ndarray


@dataclass(frozen=True)
class Interval:
    """A figure with its 95 % interval."""

    value: float
    low: float
    high: float

    @classmethod
    def of(cls, value: float, drawn: np.ndarray) -> Self:
        """The interval that contains the middle of the resampled values ``[R]``."""
        low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        return cls(float(value), float(low), float(high))


@dataclass(frozen=True)
class Difference(Interval):
    """The difference between our image AUROC and theirs, in -1..1, with its 95 % interval."""

    @property
    def words(self) -> str:
        """``difference`` if the interval excludes 0; otherwise ``not significant``."""
        return "difference" if self.low > 0 or self.high < 0 else "not significant"


def resampled_aurocs(
    normal: np.ndarray,
    anomalous: np.ndarray,
    normal_counts: np.ndarray,
    anomalous_counts: np.ndarray,
) -> np.ndarray:
    """The AUROC of each of R resamples.

    The normal images are sorted once. The number of normal images of a resample below a score is
    then an entry of the cumulative sum of its counts.

    Args:
        normal: scores ``[N]``.
        anomalous: scores ``[M]``.
        normal_counts: how often each normal image was drawn, ``[R, N]``; rows sum to N.
        anomalous_counts: likewise ``[R, M]``.

    Returns:
        ``[R]`` in 0..1.
    """
    order = np.argsort(normal)
    lower = np.searchsorted(normal[order], anomalous, "left")
    upper = np.searchsorted(normal[order], anomalous, "right")
    below = np.zeros((len(normal_counts), len(normal) + 1), np.int64)
    np.cumsum(normal_counts[:, order], axis=1, out=below[:, 1:])
    wins = (
        below[:, lower] + below[:, upper]
    )  # twice the number of normal images below; ties count half
    aurocs: np.ndarray = (wins * anomalous_counts).sum(1) / (2 * len(normal) * len(anomalous))
    return aurocs


def paired_difference(
    tasks: Sequence[PairedTask], resamples: int = RESAMPLES, seed: int = 0
) -> Difference:
    """The difference of the mean image AUROC over tasks (and over the seeds of each group).

    In each resample both groups are evaluated on the same images, drawn within each task and label.
    The interval reflects the choice of test images, but not the choice of seeds.

    Args:
        tasks: at least one task.
        resamples: the number of resamples.
        seed: the seed of the resampling.

    Example:
        >>> labels = np.arange(40) % 2
        >>> scores = np.random.default_rng(0).normal(size=(2, 40))
        >>> task = PairedTask(labels, ours=scores[:1] + 3 * labels, theirs=scores[1:])
        >>> paired_difference([task]).words
        'difference'
    """
    rng = np.random.default_rng(seed)
    drawn = np.mean([task_differences(task, resamples, rng) for task in tasks], axis=0)
    values = [
        np.mean([auroc(row, task.labels) for row in task.ours])
        - np.mean([auroc(row, task.labels) for row in task.theirs])
        for task in tasks
    ]
    return Difference.of(float(np.mean(values)), drawn)


def task_differences(task: PairedTask, resamples: int, rng: np.random.Generator) -> np.ndarray:
    """The difference of the mean AUROCs over seeds in each resample of one task, ``[R]``."""
    both = np.concatenate([task.ours, task.theirs])
    drawn = task_aurocs(task.labels, both, resamples, rng)
    found: np.ndarray = drawn[: len(task.ours)].mean(0) - drawn[len(task.ours) :].mean(0)
    return found


def mean_aurocs(
    tasks: Sequence[ScoredTask], resamples: int = RESAMPLES, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """The image AUROC of each method, averaged over tasks, and the same for each resample.

    In each resample all methods are evaluated on the same images, drawn within each task and label.
    The difference of two rows is therefore the difference of two methods on the same images.

    Args:
        tasks: at least one task; all have the methods in the same order.
        resamples: R, the number of resamples.
        seed: the seed of the resampling.

    Returns:
        ``[M]`` and ``[M, R]``, in 0..1.

    Example:
        >>> labels = np.arange(40) % 2
        >>> scores = np.random.default_rng(0).normal(size=(2, 40)) + [[3], [0]] * labels
        >>> values, drawn = mean_aurocs([ScoredTask(labels, scores)])
        >>> bool(Interval.of(values[0], drawn[0]).low > Interval.of(values[1], drawn[1]).high)
        True
    """
    rng = np.random.default_rng(seed)
    values = [[auroc(row, task.labels) for row in task.scores] for task in tasks]
    drawn = [task_aurocs(task.labels, task.scores, resamples, rng) for task in tasks]
    return np.mean(values, axis=0), np.mean(drawn, axis=0)


def task_aurocs(
    labels: np.ndarray, rows: np.ndarray, resamples: int, rng: np.random.Generator
) -> np.ndarray:
    """The AUROCs ``[K, R]`` of rows of scores ``[K, N]`` in the same resamples of one task."""
    normal, anomalous = labels == 0, labels == 1
    parts = []
    for count in blocks(resamples, len(labels)):
        counts = (
            drawn_counts(int(normal.sum()), count, rng),
            drawn_counts(int(anomalous.sum()), count, rng),
        )
        parts.append([resampled_aurocs(row[normal], row[anomalous], *counts) for row in rows])
    return np.concatenate(parts, axis=1)


def blocks(resamples: int, images: int) -> Iterator[int]:
    """The numbers of resamples to hold in memory at a time."""
    step = max(1, AT_ONCE // images)
    for start in range(0, resamples, step):
        yield min(step, resamples - start)


def drawn_counts(images: int, resamples: int, rng: np.random.Generator) -> np.ndarray:
    """How often each image is drawn in each resample with replacement, int ``[R, N]``."""
    drawn = rng.integers(images, size=(resamples, images))
    drawn += images * np.arange(resamples)[:, None]  # so that one count serves all resamples
    return np.bincount(drawn.ravel(), minlength=resamples * images).reshape(resamples, images)
