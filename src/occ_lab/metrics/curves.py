"""Curves of image scores, and thresholds at a given false-positive rate."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from sklearn.metrics import precision_recall_curve, roc_curve

POINTS = 64  # of a thinned curve


class OperatingPoint(NamedTuple):
    """A threshold and its error rates: images with higher scores are classified as anomalous.

    Attributes:
        threshold: -inf if all images may be classified as anomalous.
        overkill: the false-positive rate: the fraction of normal images above the threshold.
        escape: the miss rate: the fraction of anomalous images not above the threshold.
    """

    threshold: float
    overkill: float
    escape: float


def operating_point(scores: np.ndarray, labels: np.ndarray, rate: float) -> OperatingPoint:
    """The smallest threshold that keeps the observed false-positive rate at or below ``rate``.

    Of N normal images at most K may score above it, where K is the largest count with
    K / N ≤ rate. The (K + 1)-th highest normal score is such a threshold; more than K images score
    above any lower one.

    Args:
        scores: ``[N]``, without NaN.
        labels: ``[N]``, 1 anomalous; both classes are present.
        rate: in 0..1.

    Example:
        >>> scores, labels = np.array([1.0, 2.0, 3.0, 4.0, 2.5, 9.0]), np.array([0, 0, 0, 0, 1, 1])
        >>> operating_point(scores, labels, rate=0.25)
        OperatingPoint(threshold=3.0, overkill=0.25, escape=0.5)
    """
    normal, anomalous = np.sort(scores[labels == 0])[::-1], scores[labels == 1]
    fractions = np.arange(len(normal) + 1) / len(normal)
    most = int(np.searchsorted(fractions, rate, "right")) - 1
    threshold = float(normal[most]) if most < len(normal) else -np.inf
    return OperatingPoint(
        threshold, float((normal > threshold).mean()), float((anomalous <= threshold).mean())
    )


def auroc(scores: np.ndarray, labels: np.ndarray) -> float:
    """Area under the ROC curve: the fraction of normal-anomalous pairs that are ranked correctly.

    Args:
        scores: ``[N]``, without NaN; ties count half.
        labels: ``[N]``, 1 anomalous.

    Returns:
        In 0..1; NaN unless both classes are present.

    Example:
        >>> auroc(np.array([0.1, 0.4, 0.3, 0.9]), np.array([0, 0, 1, 1]))
        0.75
    """
    normal, anomalous = np.sort(scores[labels == 0]), scores[labels == 1]
    pairs = len(normal) * len(anomalous)
    if not pairs:
        return float("nan")
    below, up_to = (np.searchsorted(normal, anomalous, side).sum() for side in ("left", "right"))
    return float(below + up_to) / (2 * pairs)


def roc(scores: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The ROC curve as scikit-learn computes it, for scores that may be infinite.

    Args:
        scores: ``[N]``, without NaN.
        labels: ``[N]``, 1 anomalous; both classes are present.

    Returns:
        False- and true-positive rates ``[P]``, ascending from (0, 0) to (1, 1).

    Example:
        >>> roc(np.array([0.1, 0.4, 0.3, np.inf]), np.array([0, 0, 1, 1]))
        (array([0. , 0. , 0.5, 0.5, 1. ]), array([0. , 0.5, 0.5, 1. , 1. ]))
    """
    false, true, _ = roc_curve(labels, ranks(scores))
    return false, true


def precision_recall(scores: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The precision-recall curve as scikit-learn computes it, for scores that may be infinite.

    The curve is a step function: between two recalls, the precision is that of the higher recall.
    The area below it is the average precision.

    Args:
        scores: ``[N]``, without NaN.
        labels: ``[N]``, 1 anomalous; both classes are present.

    Returns:
        Recall and precision ``[P]``; recall ascends from 0, where precision is 1.

    Example:
        >>> precision_recall(np.array([0.1, 0.4, 0.9]), np.array([0, 1, 1]))
        (array([0. , 0.5, 1. , 1. ]), array([1.        , 1.        , 1.        , 0.66666667]))
    """
    precision, recall, _ = precision_recall_curve(labels, ranks(scores))
    return recall[::-1], precision[::-1]


def ranks(scores: np.ndarray) -> np.ndarray:
    """Ranks from 0, equal for equal scores; needed because scikit-learn refuses infinite scores."""
    return np.unique(scores, return_inverse=True)[1]


def thinned(x: np.ndarray, y: np.ndarray, points: int = POINTS) -> tuple[np.ndarray, np.ndarray]:
    """At most ``points`` points of a curve, including its ends."""
    if len(x) <= points:
        return x, y
    kept = np.linspace(0, len(x) - 1, points).round().astype(int)
    return x[kept], y[kept]
