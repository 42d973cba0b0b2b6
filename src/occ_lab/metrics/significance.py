"""Tests of differences between image AUROCs on the same images."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy import stats

from occ_lab.metrics.bootstrap import PairedTask


def delong_p_value(tasks: Sequence[PairedTask]) -> float:
    """The p-value of a difference of mean AUROCs, by the test of DeLong et al. (1988).

    The AUROC is a mean of placements, one for each image: the fraction of the images of the other
    class that it is on the right side of, a tie counts half. Its variance is therefore that of a
    mean over the anomalous images plus that of a mean over the normal ones, and so is the variance
    of a difference, in which each image has the difference of its placements (equations 5 to 7 of
    E. DeLong, D. DeLong, D. Clarke-Pearson, Biometrics 44, 1988; placements from midranks as in
    X. Sun, W. Xu, IEEE Signal Processing Letters 21, 2014). Here each group may have several runs,
    whose placements are averaged, and tasks with images of their own, whose variances add up.

    The test covers the choice of test images, but not that of seeds.

    Args:
        tasks: the scores of two groups of runs, at least one task.

    Returns:
        Two-sided, in 0..1; 1 for groups that order all pairs of images alike, 0 if the placements
        of all images differ by the same amount. NaN if a task has a single image of a class, whose
        variance is unknown.

    Example:
        >>> labels = np.arange(40) % 2
        >>> scores = np.random.default_rng(0).normal(size=(2, 40))
        >>> delong_p_value([PairedTask(labels, scores[:1] + 3 * labels, scores[1:])]) < 1e-6
        True
    """
    difference = variance = 0.0
    for task in tasks:
        ours, theirs = placements(task.labels, task.ours), placements(task.labels, task.theirs)
        normal, anomalous = (a - b for a, b in zip(ours, theirs, strict=True))
        if min(len(normal), len(anomalous)) < 2:
            return math.nan
        difference += float(anomalous.mean())
        variance += normal.var(ddof=1) / len(normal) + anomalous.var(ddof=1) / len(anomalous)
    if not variance:
        return 0.0 if difference else 1.0
    return float(2 * stats.norm.sf(abs(difference) / math.sqrt(variance)))


def placements(labels: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each image the fraction of the images of the other class on the right side of it.

    Args:
        labels: ``[N]``, 1 anomalous.
        scores: ``[S, N]``, one row for each run.

    Returns:
        Means over the runs, of the normal images and of the anomalous ones, in 0..1. The mean of
        either is the mean AUROC.

    Example:
        >>> placements(np.array([0, 0, 1]), np.array([[0.1, 0.5, 0.5]]))
        (array([1. , 0.5]), array([0.75]))
    """
    normal, anomalous = labels == 0, labels == 1
    # The midrank of an image among all, minus that among its own class, counts those of the other
    # class below it.
    every = stats.rankdata(scores, axis=1)
    above = every[:, anomalous] - stats.rankdata(scores[:, anomalous], axis=1)
    below = every[:, normal] - stats.rankdata(scores[:, normal], axis=1)
    n, m = normal.sum(), anomalous.sum()
    return 1 - below.mean(axis=0) / m, above.mean(axis=0) / n


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust the p-values of several tests, so that all are judged at one level together.

    (S. Holm, Scandinavian Journal of Statistics 6, 1979.) The probability that any true hypothesis
    has an adjusted p-value of at most α is at most α.

    Args:
        p_values: in 0..1; NaN is the result of no test, and stays.

    Returns:
        In the same order, in 0..1, none below the given one.

    Example:
        >>> holm([0.01, 0.04, 0.03])
        [0.03, 0.06, 0.06]
    """
    order = [index for index in np.argsort(p_values) if not math.isnan(p_values[index])]
    adjusted, highest = [math.nan] * len(p_values), 0.0
    for place, index in enumerate(order):
        highest = max(highest, min(1.0, (len(order) - place) * p_values[index]))
        adjusted[index] = highest
    return adjusted
