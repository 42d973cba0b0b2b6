"""Exact image metrics over batches and processes."""

from __future__ import annotations

from abc import abstractmethod

import numpy as np
import torch
from sklearn.metrics import average_precision_score, precision_recall_curve
from torch import Tensor

from occ_lab.metrics.base import OrderMetric, arrays, checked
from occ_lab.metrics.curves import auroc, ranks
from occ_lab.utils.merging import append


class ImageMetric(OrderMetric):
    """Collects image scores and labels; a subclass computes the metric."""

    scores: list[Tensor]
    labels: list[Tensor]

    def __init__(self) -> None:
        super().__init__("scores", "labels")

    def update(self, scores: Tensor, labels: Tensor) -> None:
        """Add a batch.

        Args:
            scores: image scores, float ``[B]``; higher is more anomalous.
            labels: ``[B]``, 0 normal, 1 anomalous.

        Raises:
            InputError: a score is NaN.
            ValueError: the shapes differ.
        """
        append(self.scores, checked(scores, labels, "labels"))
        append(self.labels, labels)

    def compute(self) -> Tensor:
        """The metric in 0..1, a float64 scalar on the CPU; NaN unless both classes are present."""
        labels = np.concatenate([[], *arrays(self.labels)])
        scores = np.concatenate([[], *arrays(self.scores)])
        both = len(np.unique(labels)) == 2
        return torch.tensor(self.measure(scores, labels) if both else np.nan, dtype=torch.float64)

    @abstractmethod
    def measure(self, scores: np.ndarray, labels: np.ndarray) -> float:
        """The metric of scores ``[N]`` and labels ``[N]`` of both classes."""


class ImageAUROC(ImageMetric):
    """Area under the ROC curve of the image scores, in 0..1; ties count half.

    Example:
        >>> metric = ImageAUROC()
        >>> metric.update(torch.tensor([0.1, 0.4, 0.3, 0.9]), torch.tensor([0, 0, 1, 1]))
        >>> metric.compute()
        tensor(0.7500, dtype=torch.float64)
    """

    def measure(self, scores: np.ndarray, labels: np.ndarray) -> float:
        """See `ImageMetric.measure`."""
        return auroc(scores, labels)


class ImageAP(ImageMetric):
    """Average precision of the image scores, in 0..1 (scikit-learn's step-wise definition).

    Example:
        >>> metric = ImageAP()
        >>> metric.update(torch.tensor([0.1, 0.4, 0.3, 0.9]), torch.tensor([0, 0, 1, 1]))
        >>> metric.compute()
        tensor(0.8333, dtype=torch.float64)
    """

    def measure(self, scores: np.ndarray, labels: np.ndarray) -> float:
        """See `ImageMetric.measure`."""
        return float(average_precision_score(labels, ranks(scores)))


class ImageF1Max(ImageMetric):
    """Best F1 of the image scores over all thresholds, in 0..1.

    Example:
        >>> metric = ImageF1Max()
        >>> metric.update(torch.tensor([0.1, 0.4, 0.3, 0.9]), torch.tensor([0, 0, 1, 1]))
        >>> metric.compute()
        tensor(0.8000, dtype=torch.float64)
    """

    def measure(self, scores: np.ndarray, labels: np.ndarray) -> float:
        """See `ImageMetric.measure`."""
        return best_f1(labels, scores)[0]


def best_f1(labels: np.ndarray, scores: np.ndarray) -> tuple[float, float]:
    """Find the threshold of the best F1.

    Args:
        labels: ``[N]``, 0 normal, 1 anomalous, at least one anomalous.
        scores: float ``[N]``, without NaN.

    Returns:
        The best F1 in 0..1, and the lowest score that counts as anomalous at that threshold.

    Example:
        >>> best_f1(np.array([0, 0, 1, 1]), np.array([0.1, 0.4, 0.3, 0.9]))
        (0.8, 0.3)
    """
    distinct, ranked = np.unique(scores, return_inverse=True)
    precision, recall, thresholds = precision_recall_curve(labels, ranked)
    # precision + recall is 0 if there is no true positive, and F1 is then 0 as well.
    f1 = 2 * precision * recall / np.maximum(precision + recall, np.finfo(float).tiny)
    best = f1[:-1].argmax()  # the curve's last point has no threshold
    return float(f1[best]), float(distinct[int(thresholds[best])])
