"""Curves of image scores, and what escapes at a given overkill."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

POINTS = 64  # that a curve is thinned to
BINS = 30


class OperatingPoint(NamedTuple):
    """A threshold: images that score above it are called abnormal.

    Attributes:
        threshold: may be -inf, where all may be called so.
        overkill: share of the normal images that are called abnormal, in 0..1.
        escape: share of the abnormal images that are not, in 0..1.
    """

    threshold: float
    overkill: float
    escape: float


def operating_point(scores: np.ndarray, labels: np.ndarray, rate: float) -> OperatingPoint:
    """The smallest threshold that keeps the observed overkill at or below ``rate``.

    With N normal images at most K may score above it, K the largest count with K / N ≤ rate. The
    (K + 1)-th highest normal score is such a threshold; of any lower one, it and the K above it
    would all lie above.

    Args:
        scores: ``[N]``, without NaN.
        labels: ``[N]``, 1 abnormal; both kinds are there.
        rate: in 0..1.
    """
    normal, abnormal = np.sort(scores[labels == 0])[::-1], scores[labels == 1]
    shares = np.arange(len(normal) + 1) / len(normal)
    most = int(np.searchsorted(shares, rate, "right")) - 1
    threshold = float(normal[most]) if most < len(normal) else -np.inf
    return OperatingPoint(
        threshold, float((normal > threshold).mean()), float((abnormal <= threshold).mean())
    )


def roc(scores: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """False and true positive rates, from (0, 0) to (1, 1), a point for each distinct score."""
    false, true = counts_above(scores, labels)
    return false / max(false[-1], 1), true / max(true[-1], 1)


def precision_recall(scores: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Recall and precision, recall rising from 0, then a point for each distinct score.

    The curve is a step: from one recall to the next it has the precision of the next; the area
    below it is the average precision of scikit-learn.
    """
    false, true = (counts[1:] for counts in counts_above(scores, labels))
    precision = true / (true + false)
    recall = true / max(true[-1], 1)
    return np.concatenate([[0.0], recall]), np.concatenate([precision[:1], precision])


def counts_above(scores: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Normal and abnormal images at or above each distinct score, highest first, after 0."""
    distinct, ranks = np.unique(-scores, return_inverse=True)
    each = [np.bincount(ranks[labels == kind], minlength=len(distinct)) for kind in (0, 1)]
    normal, abnormal = (np.concatenate([[0], np.cumsum(counts)]) for counts in each)
    return normal, abnormal


def thinned(x: np.ndarray, y: np.ndarray, points: int = POINTS) -> tuple[np.ndarray, np.ndarray]:
    """At most so many points of a curve, its ends among them."""
    if len(x) <= points:
        return x, y
    kept = np.linspace(0, len(x) - 1, points).round().astype(int)
    return x[kept], y[kept]


def histogram(
    scores: np.ndarray, labels: np.ndarray, bins: int = BINS
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Middles of the bins, and the share of the normal and of the abnormal images in each.

    Infinite scores lie in no bin.
    """
    finite = scores[np.isfinite(scores)]
    ends = (finite.min(), finite.max()) if len(finite) else (0.0, 1.0)
    edges = np.histogram_bin_edges(finite, bins, ends)
    normal, abnormal = (
        np.histogram(scores[labels == kind], edges)[0] / max((labels == kind).sum(), 1)
        for kind in (0, 1)
    )
    return (edges[:-1] + edges[1:]) / 2, normal, abnormal
