"""Pixel metrics over batches and processes, exact up to a limit of memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor

from occ_lab.metrics.areas import area_up_to, log_area
from occ_lab.metrics.limits import AUPRO_LIMIT, HIGH, LOW, STRICT
from occ_lab.metrics.pixel_store import PixelStore
from occ_lab.metrics.positives import Positives

Counts: TypeAlias = tuple[int, int]  # of the normal pixels of all images, and of normal images
Weight: TypeAlias = Literal["pixels", "regions", "images", "defects"]


@dataclass(frozen=True)
class Measure:
    """A metric as a mean, or the maximum, of a value in 0..1 over the anomalous pixels.

    Attributes:
        value: from positives and the numbers of normal pixels, float64 ``[n]``.
        mean_over: what weighs the same in the mean, see `Positives`; None is the maximum.
    """

    value: Callable[[Positives, Counts], np.ndarray]
    mean_over: Weight | None


def area(limit: float, mean_over: Weight) -> Measure:
    """The area below a curve over the false-positive rate, up to a limit and divided by it.

    Raises:
        ValueError: ``limit`` is out of range.
    """
    if not 0 < limit <= 1:
        raise ValueError(f"limit must be in (0, 1], got {limit}")
    return Measure(
        lambda each, counts: area_up_to(each.above, each.reached, limit * counts[0]), mean_over
    )


def precision(each: Positives, counts: Counts) -> np.ndarray:
    """The precision at the threshold of each anomalous pixel."""
    value: np.ndarray = each.found / (each.found + each.reached)
    return value


def f1(each: Positives, counts: Counts) -> np.ndarray:
    """The F1 score at the threshold of each anomalous pixel."""
    value: np.ndarray = 2 * each.found / (each.found + each.reached + each.total)
    return value


def log_overlap(low: float, high: float) -> Measure:
    """The area below the overlap of single images between two rates, see `PixelAUPIMO`.

    Raises:
        ValueError: a rate is out of range.
    """
    if not 0 < low < high <= 1:
        raise ValueError(f"low and high must be in (0, 1], low below high; got {low} and {high}")

    def value(each: Positives, counts: Counts) -> np.ndarray:
        if not counts[1]:
            return np.full(len(each.found), np.nan)
        rates = low * counts[1], high * counts[1]
        return log_area(each.above_of_normal, each.reached_of_normal, *rates)

    return Measure(value, "images")


AUROC = area(1.0, "pixels")
AP = Measure(precision, "pixels")
F1_MAX = Measure(f1, None)


class _Result:
    """The value of a measure in each of several groups."""

    def __init__(self, measure: Measure, groups: int) -> None:
        self.measure = measure
        self.values = np.zeros(groups)  # weighted sums, or maxima
        self.weights = np.zeros(groups)

    def add(self, positives: Positives, owners: np.ndarray, counts: Counts) -> None:
        """Add positives that belong to groups, int ``[n]``."""
        values, kind = self.measure.value(positives, counts), self.measure.mean_over
        weights = positives.pixels if kind is None else getattr(positives, kind)
        self.weights += np.bincount(owners, weights, len(self.weights))
        if kind is None:
            np.maximum.at(self.values, owners, values)
        else:
            self.values += np.bincount(owners, weights * values, len(self.values))

    def of(self, group: int) -> float:
        """The value in 0..1; NaN if nothing has a weight."""
        value, weight = self.values[group], self.weights[group]
        if not weight:
            return np.nan
        # Rounding must not lead to a mean above 1.
        return float(value if self.measure.mean_over is None else np.minimum(value / weight, 1.0))


class _PixelMetric(PixelStore):
    """Computes measures, of which a subclass defines its metrics."""

    def __init__(self) -> None:
        super().__init__()
        self._in_groups: dict[str, _Result] = {}

    def reset(self) -> None:
        """Remove all batches."""
        super().reset()
        self._in_groups = {}

    def _measured(self, measures: Mapping[str, Measure]) -> dict[str, Tensor]:
        """Each measure, float64 scalars; NaN unless both kinds of pixels are present."""
        counts = self.negatives()
        owners = [each for of in self._all("owners", "rounded_owners") for each in of]
        groups = 1 + max((int(of.max()) for of in owners if len(of)), default=-1)
        whole = {name: _Result(measure, 1) for name, measure in measures.items()}
        self._in_groups = {name: _Result(measure, groups) for name, measure in measures.items()}
        for block in self.blocks() if counts[0] else ():
            for result in whole.values():
                result.add(block, np.zeros(len(block.owners), np.intp), counts)
            if groups:
                known = block.in_groups()
                for result in self._in_groups.values():
                    result.add(known, known.owners, counts)
        return {
            name: torch.tensor(result.of(0), dtype=torch.float64) for name, result in whole.items()
        }


class _SingleMetric(_PixelMetric):
    """Computes one measure."""

    def __init__(self, measure: Measure) -> None:
        super().__init__()
        self.measure = measure

    def compute(self) -> Tensor:
        """The metric, a float64 scalar on the CPU; NaN unless both classes are present."""
        return self._measured({"": self.measure})[""]


class PixelAUROC(_SingleMetric):
    """Area under the ROC curve of all pixels of all images, in 0..1; ties count half.

    It is exact up to 268 MB of pixels (2,500 images of 224 × 224); beyond, scores are rounded to 17
    binary digits and counted. This changes an AUROC by at most half the probability that an
    anomalous and a normal pixel have the same rounded score.

    Example:
        >>> maps = torch.tensor([[[0.1, 0.2], [0.3, 0.9]]])
        >>> metric = PixelAUROC()
        >>> metric.update(maps, maps > 0.25)
        >>> metric.compute()
        tensor(1., dtype=torch.float64)
    """

    def __init__(self) -> None:
        super().__init__(AUROC)


class PixelAP(_SingleMetric):
    """Average precision of all pixels of all images, in 0..1 (scikit-learn's step-wise definition).

    Pixels with equal scores share one threshold. Large test sets are rounded, see `PixelAUROC`.

    Example:
        >>> metric = PixelAP()
        >>> maps, masks = torch.tensor([[[0.1, 0.4], [0.3, 0.9]]]), torch.tensor([[[0, 0], [1, 1]]])
        >>> metric.update(maps, masks)
        >>> metric.compute()
        tensor(0.8333, dtype=torch.float64)
    """

    def __init__(self) -> None:
        super().__init__(AP)


class PixelF1Max(_SingleMetric):
    """Best F1 of all pixels of all images over all thresholds, in 0..1; an oracle of the threshold.

    Large test sets are rounded, see `PixelAUROC`.

    Example:
        >>> metric = PixelF1Max()
        >>> maps, masks = torch.tensor([[[0.1, 0.4], [0.3, 0.9]]]), torch.tensor([[[0, 0], [1, 1]]])
        >>> metric.update(maps, masks)
        >>> metric.compute()
        tensor(0.8000, dtype=torch.float64)
    """

    def __init__(self) -> None:
        super().__init__(F1_MAX)


class PixelAUPRO(_SingleMetric):
    """Area under the per-region overlap, in 0..1 (Bergmann et al., IJCV 2021).

    The curve is the mean overlap with the ground-truth regions (8-connected components) against the
    false-positive rate of all pixels outside the regions, for all thresholds. It is cut at
    ``limit`` by linear interpolation, and its area is divided by ``limit``. Unlike in some
    published code, the overlap itself is not rescaled. Large test sets are rounded, see
    `PixelAUROC`.

    Args:
        limit: the highest false-positive rate, in (0, 1].

    Raises:
        ValueError: ``limit`` is out of range.

    Example:
        >>> maps = torch.tensor([[[0.1, 0.2], [0.3, 0.9]]])
        >>> metric = PixelAUPRO(limit=0.3)
        >>> metric.update(maps, maps > 0.25)
        >>> metric.compute()
        tensor(1., dtype=torch.float64)
    """

    def __init__(self, limit: float = AUPRO_LIMIT) -> None:
        super().__init__(area(limit, "regions"))


class PixelAUPIMO(_SingleMetric):
    """Area under the per-image overlap, in 0..1 (Bertoldo et al. 2024, arXiv 2401.01733).

    The overlap is the fraction of the anomalous pixels of an image that is found, and the curve
    that of each image with anomalous pixels against the false-positive rate of normal images only.
    Its area is that over the logarithm of the rate from ``low`` to ``high``, divided by
    log(high / low); the metric is the mean over these images. An anomalous image without an
    anomalous pixel takes part in neither. It is NaN without normal or without marked images.

    The paper averages the rates of the normal images. Here it is the rate of all their pixels,
    which is the same for images of one size. Between thresholds the overlap rises linearly with the
    rate, as in all areas here. Large test sets are rounded, see `PixelAUROC`.

    Args:
        low: the lowest false-positive rate, above 0.
        high: the highest false-positive rate, above ``low`` and at most 1.

    Raises:
        ValueError: a rate is out of range.

    Example:
        >>> maps = torch.tensor([[[0.1, 0.2], [0.3, 0.9]], [[0.1, 0.1], [0.4, 0.4]]])
        >>> metric = PixelAUPIMO()
        >>> metric.update(maps, maps > torch.tensor([0.25, 1.0])[:, None, None])
        >>> metric.compute()
        tensor(0.5000, dtype=torch.float64)
    """

    def __init__(self, low: float = LOW, high: float = HIGH) -> None:
        super().__init__(log_overlap(low, high))


class PixelMetrics(_PixelMetric):
    """All pixel metrics together, in little more time and memory than one of them.

    Those of defects whose overlap saturates, sPRO (Bergmann et al. 2022, "Beyond dents and
    scratches", IJCV 130), are computed only here, of the ``gains`` that `update` is given.

    Args:
        limit: the highest false-positive rate of `PixelAUPRO` and sPRO, in (0, 1].

    Raises:
        ValueError: ``limit`` is out of range.

    Example:
        >>> maps, metric = torch.tensor([[[0.1, 0.2], [0.3, 0.9]]]), PixelMetrics()
        >>> metric.update(maps, torch.tensor([[[0, 1], [0, 1]]]))
        >>> values = {name: round(float(value), 3) for name, value in metric.compute().items()}
        >>> values  # doctest: +NORMALIZE_WHITESPACE
        {'pixel_auroc': 0.75, 'pixel_aupro': 0.5, 'pixel_aupro_005': 0.5, 'pixel_ap': 0.833,
         'pixel_f1max': 0.8, 'pixel_aupimo': nan, 'pixel_spro': nan, 'pixel_spro_005': nan}
    """

    def __init__(self, limit: float = AUPRO_LIMIT) -> None:
        super().__init__()
        self.measures = {
            "pixel_auroc": AUROC,
            "pixel_aupro": area(limit, "regions"),
            "pixel_aupro_005": area(STRICT, "regions"),
            "pixel_ap": AP,
            "pixel_f1max": F1_MAX,
            "pixel_aupimo": log_overlap(LOW, HIGH),
            "pixel_spro": area(limit, "defects"),
            "pixel_spro_005": area(STRICT, "defects"),
        }

    def compute(self) -> dict[str, Tensor]:
        """Each metric by its name, float64 scalars; NaN where it is not defined."""
        return self._measured(self.measures)

    def of(self, group: int) -> dict[str, float]:
        """The metrics of the anomalous pixels of a group against the normal pixels of all images.

        Areas of a whole test set are the means of those of its groups, weighted by the numbers of
        anomalous pixels, regions or images. It goes by the last `compute`.

        Args:
            group: the number of the group, as in `update`, at least 0.

        Returns:
            As `compute`, without what is not defined; empty if the group has no anomalous pixel, or
            there is no normal one.

        Example:
            >>> maps, metric = torch.tensor([[[0.1, 0.9]], [[0.8, 0.2]]]), PixelMetrics()
            >>> metric.update(maps, torch.tensor([[[0, 1]], [[0, 1]]]), torch.tensor([4, 7]))
            >>> _ = metric.compute()
            >>> metric.of(4)["pixel_auroc"], metric.of(7)["pixel_auroc"]
            (1.0, 0.5)
        """
        found = {
            name: result.of(group)
            for name, result in self._in_groups.items()
            if group < len(result.weights)
        }
        return {name: value for name, value in found.items() if not np.isnan(value)}
