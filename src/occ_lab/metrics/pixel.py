"""Pixel metrics over batches and processes, exact up to a limit of memory."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from occ_lab.metrics.base import OrderMetric, arrays, checked
from occ_lab.metrics.packing import pack, unpack
from occ_lab.metrics.rounding import DIGITS, rounded, run_lengths, totals
from occ_lab.utils.memory import MB
from occ_lab.utils.merging import append, join_last, joined_last
from occ_lab.utils.processes import distributed

# Neighbours within an image only: the first axis counts the images of a batch.
_EIGHT_NEIGHBOURS = np.zeros((3, 3, 3), dtype=bool)
_EIGHT_NEIGHBOURS[1] = True

# How much `compute` processes at once: it passes over the negatives a few times in little memory.
POSITIVES_AT_ONCE = 2**21
BYTES_AT_ONCE = 2**24  # of packed negatives: 2**23 float32

EXACT_BYTES = 2**28  # of all pixels; those of 2,500 images of 224 × 224 pixels
ENTRIES = 2**21  # counts of rounded scores that are kept before equal ones are added up

PIXELS, REGIONS = 0, 1  # every anomalous pixel weighs the same, or every region does

log = logging.getLogger(__name__)


class _PixelMetric(OrderMetric):
    """Area under a curve of weighted true positives against false positives, up to a limit.

    A positive pixel of score ``s`` and weight ``w`` raises the curve by ``w``: linearly between the
    number of false positives above ``s`` and the number at or above ``s`` (a straight line through
    ties). The area is therefore a sum over the positive pixels, each of which only needs two counts
    of negatives. The curve itself is never built.

    Nearly all pixels are negative, so the negatives are stored in half of their size (`pack`). Once
    all pixels would take more than `EXACT_BYTES`, scores are rounded to 17 binary digits and only
    counted, so that the memory no longer depends on the number of images, and the time is
    proportional to it. Scores that are then equal are ties. This changes an AUROC by at most half
    the probability that an anomalous and a normal pixel have the same rounded score.
    """

    positives: list[Tensor]  # scores
    areas: list[Tensor]  # of the regions that the positive pixels belong to
    owners: list[Tensor]  # the groups of their images; -1 where they have none
    packed_lows: list[Tensor]  # the negatives, in the three parts that `pack` returns
    packed_heads: list[Tensor]
    packed_runs: list[Tensor]
    rounded_negatives: list[Tensor]  # scores
    negative_counts: list[Tensor]
    rounded_positives: list[Tensor]  # scores
    rounded_owners: list[Tensor]
    positive_counts: list[Tensor]
    positive_fractions: list[Tensor]  # each pixel is the part of its region that it covers

    exact = ("positives", "areas", "owners", "packed_lows", "packed_heads", "packed_runs")
    negative = ("rounded_negatives", "negative_counts")
    positive = ("rounded_positives", "rounded_owners", "positive_counts", "positive_fractions")

    def __init__(self) -> None:
        super().__init__(*self.exact, *self.negative, *self.positive)
        self._reset_parts()

    def reset(self) -> None:
        """Remove all batches."""
        super().reset()
        self._reset_parts()

    def _reset_parts(self) -> None:
        # Of the last `_areas`, for each curve and group: area over limit, and weight.
        self._parts = np.zeros((0, 2, 0))
        self._negatives = 0  # likewise
        self._bytes = self._entries = 0  # of the pixels, and of the counts that can be added up
        self._sizes: list[int] = []  # in bytes, of the pieces of exact pixels

    def update(self, maps: Tensor, masks: Tensor, groups: Tensor | None = None) -> None:
        """Add a batch.

        Args:
            maps: anomaly maps, float ``[B, h, w]``; higher is more anomalous. The size may change
                between batches, but the dtype must not.
            masks: bool ``[B, h, w]``, true where a pixel is anomalous.
            groups: a number for each image, int ``[B]``, for `PixelMetrics.of`; −1 or None if it
                is not asked.

        Raises:
            InputError: a score is NaN.
            ValueError: the shapes differ, or the dtype differs from earlier batches.
        """
        maps = checked(maps, masks, "masks")
        if self.positives and maps.dtype != self.positives[0].dtype:
            raise ValueError(f"maps must stay {self.positives[0].dtype}, got {maps.dtype}")
        marked = masks.to(maps.device).bool()
        inside = marked.cpu().numpy()

        regions = ndimage.label(inside, _EIGHT_NEIGHBOURS)[0][inside]
        areas = np.bincount(regions)[regions].astype(np.int32)
        positives, negatives = parted(maps, marked)
        of = np.full(len(maps), -1) if groups is None else groups.cpu().numpy()
        owners = np.repeat(of, inside.sum((1, 2))).astype(np.int32)
        if not self.positives:  # all processes exchange every state, in its dtype
            self._append_exact(*_no_pixels(positives.dtype))
            self._append_rounded(positives[:0], areas[:0], owners[:0], negatives[:0])
        if self._bytes > EXACT_BYTES:
            self._append_rounded(positives, areas, owners, negatives)
            return
        self._append_exact(positives, areas, owners, *pack(negatives))
        if self._bytes > EXACT_BYTES:
            log.info(
                "pixel metrics: from now on, scores are rounded to %d binary digits, because the "
                "pixels take more than %.0f MB",
                *(DIGITS + 1, EXACT_BYTES / MB),
            )
            self._round()

    def _append_exact(self, *values: np.ndarray) -> None:
        size = sum(array.nbytes for array in values)
        self._bytes += size
        # `compute` works through these pieces.
        count = joined_last(self._sizes, size, BYTES_AT_ONCE)
        for state, array in zip(self.exact, values, strict=True):
            join_last(getattr(self, state), count, self._kept(array))

    def _append(self, states: Sequence[str], *values: np.ndarray) -> None:
        for state, array in zip(states, values, strict=True):
            append(getattr(self, state), self._kept(array))

    def _kept(self, array: np.ndarray) -> Tensor:
        # Processes exchange what is on their devices; without them it would only go back and forth.
        kept = torch.from_numpy(array)
        return kept.to(self.device) if distributed() else kept

    def _all(self, *states: str) -> list[list[np.ndarray]]:
        return [arrays(getattr(self, state)) for state in states]

    def _append_rounded(
        self, positives: np.ndarray, areas: np.ndarray, owners: np.ndarray, negatives: np.ndarray
    ) -> None:
        """Add the pixels of a batch to the counts of rounded scores; the negatives ascend."""
        fractions = 1.0 / areas
        counts = np.ones(len(areas), np.int64)
        self._append(self.negative, *run_lengths(rounded(negatives)))
        self._append(self.positive, *totals((rounded(positives), owners), counts, fractions))
        last = (self.rounded_negatives[-1], self.rounded_positives[-1])
        self._entries += sum(len(each) for each in last)
        if self._entries > ENTRIES:
            negative, positive = self._counts()
            self._restart(self.negative, *negative)
            self._restart(self.positive, *positive)
            self._entries = 0

    def _restart(self, states: Sequence[str], *values: np.ndarray) -> None:
        for state in states:
            setattr(self, state, [])
        self._append(states, *values)

    def _counts(self) -> tuple[tuple[np.ndarray, ...], tuple[np.ndarray, ...]]:
        """The arrays of all rounded negatives and positives, with equal ones added up."""
        negatives, counts = (np.concatenate(each) for each in self._all(*self.negative))
        scores, owners, pixels, fractions = (
            np.concatenate(each) for each in self._all(*self.positive)
        )
        return totals((negatives,), counts), totals((scores, owners), pixels, fractions)

    def _round(self) -> None:
        """Replace all exact scores by counts of rounded ones."""
        batches = zip(*self._all(*self.exact), strict=True)
        self._restart(self.exact, *_no_pixels(arrays(self.positives)[0].dtype))
        self._sizes = [0]
        for state in (*self.negative, *self.positive):  # torchmetrics makes lists tensors
            setattr(self, state, [torch.from_numpy(each) for each in arrays(getattr(self, state))])
        for positives, areas, owners, *packed in batches:
            # Several batches together are not in order.
            self._append_rounded(positives, areas, owners, np.sort(unpack(*packed)))

    def _areas(self, *curves: _Curve) -> list[Tensor]:
        """The area of each curve in 0..1, float64 scalars; NaN unless both classes are present."""
        rounding = any(len(each) for each in self._all("rounded_negatives")[0])
        if rounding:
            self._round()  # what other processes have not rounded
        n_negatives = sum(int(each.sum(dtype=np.int64)) for each in self._all("packed_runs")[0])
        n_negatives += sum(int(each.sum()) for each in self._all("negative_counts")[0])
        self._negatives = n_negatives
        limits = np.array([curve.limit * n_negatives for curve in curves])
        area, total = np.zeros(len(curves)), np.zeros(len(curves))
        owners = [each for of in self._all("owners", "rounded_owners") for each in of]
        groups = 1 + max((int(of.max()) for of in owners if len(of)), default=-1)
        self._parts = parts = np.zeros((len(curves), 2, groups))
        for below, up_to, weights, of in self._rounded() if rounding else self._sorted():
            known = of >= 0
            for index, curve in enumerate(curves):
                own = weights[curve.weights]
                ramps = _area_under_ramp(n_negatives - up_to, n_negatives - below, limits[index])
                area[index] += own @ ramps
                total[index] += own.sum()
                for part, values in enumerate((own * ramps / (limits[index] or 1.0), own)):
                    parts[index, part] += np.bincount(of[known], values[known], groups)
        most = limits * total
        # Rounding must not lead to an area above 1.
        values = np.minimum(area / most, 1.0) if most.all() else np.full(len(curves), np.nan)
        return [torch.tensor(value, dtype=torch.float64) for value in values]

    def _sorted(self) -> Iterator[_Positives]:
        """The positives in the order of their scores, many at a time."""
        positives, regions, owners = self._all("positives", "areas", "owners")
        for block in _blocks([len(chunk) for chunk in positives], POSITIVES_AT_ONCE):
            scores = np.concatenate(positives[block])
            order = np.argsort(scores)
            sizes = np.concatenate(regions[block])[order].astype(np.float64)
            of = np.concatenate(owners[block])[order]
            yield *self._count_negatives(scores[order]), (np.ones_like(sizes), 1 / sizes), of

    def _rounded(self) -> Iterator[_Positives]:
        """The positives whose scores are rounded; those of one score and group are one."""
        (negatives, counts), (scores, owners, pixels, fractions) = self._counts()
        upwards = np.concatenate([[0], counts.cumsum()])
        below, up_to = (
            upwards[np.searchsorted(negatives, scores, side)] for side in ("left", "right")
        )
        yield below, up_to, (pixels.astype(np.float64), fractions), owners

    def _count_negatives(self, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The numbers of negatives below, and at or below, each of the sorted scores."""
        packed = self._all("packed_lows", "packed_heads", "packed_runs")
        below = np.zeros(len(scores), dtype=np.int64)
        up_to = np.zeros(len(scores), dtype=np.int64)
        for block in _blocks([len(lows) for lows in packed[0]], BYTES_AT_ONCE):
            negatives = unpack(*(np.concatenate(part[block]) for part in packed))
            if not len(negatives):
                continue
            negatives.sort()  # fast, because it consists of sorted pieces
            left = np.searchsorted(negatives, scores, side="left")
            below += left
            up_to += left
            tied = negatives[np.minimum(left, len(negatives) - 1)] == scores  # few, usually
            right = np.searchsorted(negatives, scores[tied], side="right")
            up_to[tied] += right - left[tied]
        return below, up_to


def parted(maps: Tensor, marked: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """The scores of marked pixels in order, and those of all others in ascending order.

    Args:
        maps: float ``[B, h, w]``.
        marked: bool ``[B, h, w]``, on the same device.

    Example:
        >>> maps = torch.tensor([[[3.0, 2.0, 1.0]]])
        >>> parted(maps, maps == 2)
        (array([2.], dtype=float32), array([1., 3.], dtype=float32))
    """
    if maps.device.type != "cpu":
        return parted_there(maps, marked)
    scores, inside = maps.numpy(), marked.numpy()
    return scores[inside], np.sort(scores[~inside])


def parted_there(maps: Tensor, marked: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """As `parted`, with the work done by PyTorch, which suits a GPU; on a CPU it takes longer."""
    return maps[marked].cpu().numpy(), maps[~marked].sort().values.cpu().numpy()


@dataclass(frozen=True)
class _Curve:
    """A curve whose area is computed.

    Attributes:
        limit: the false-positive rate up to which the area counts, in (0, 1].
        weights: what weighs the same, `PIXELS` or `REGIONS`.
    """

    limit: float
    weights: int


_ROC = _Curve(1.0, PIXELS)

# For each positive: the numbers of negatives below, and at or below; both weights; the group.
_Positives: TypeAlias = tuple[np.ndarray, np.ndarray, tuple[np.ndarray, np.ndarray], np.ndarray]


def _no_pixels(dtype: np.dtype[Any]) -> tuple[np.ndarray, ...]:
    """The exact states of a metric without pixels."""
    whole = np.empty(0, np.int32)
    return np.empty(0, dtype), whole, whole, *pack(np.empty(0, dtype))


class PixelAUROC(_PixelMetric):
    """Area under the ROC curve of all pixels of all images, in 0..1; ties count half.

    It is exact up to 268 MB of pixels (2,500 images of 224 × 224); beyond, scores are rounded to 17
    binary digits and counted.

    Example:
        >>> maps = torch.tensor([[[0.1, 0.2], [0.3, 0.9]]])
        >>> metric = PixelAUROC()
        >>> metric.update(maps, maps > 0.25)
        >>> metric.compute()
        tensor(1., dtype=torch.float64)
    """

    def compute(self) -> Tensor:
        """The metric, a float64 scalar on the CPU; NaN unless both classes are present."""
        return self._areas(_ROC)[0]


class PixelAUPRO(_PixelMetric):
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

    def __init__(self, limit: float = 0.3) -> None:
        super().__init__()
        self.curve = _overlap(limit)

    def compute(self) -> Tensor:
        """The metric, a float64 scalar on the CPU; NaN unless both classes are present."""
        return self._areas(self.curve)[0]


class PixelMetrics(_PixelMetric):
    """`PixelAUROC` and `PixelAUPRO` together, in little more time and memory than one of them.

    Args:
        limit: the highest false-positive rate of `PixelAUPRO`, in (0, 1].

    Raises:
        ValueError: ``limit`` is out of range.
    """

    def __init__(self, limit: float = 0.3) -> None:
        super().__init__()
        self.curve = _overlap(limit)

    def compute(self) -> dict[str, Tensor]:
        """``pixel_auroc`` and ``pixel_aupro``, equal to the separate metrics."""
        auroc, aupro = self._areas(_ROC, self.curve)
        return {"pixel_auroc": auroc, "pixel_aupro": aupro}

    def of(self, group: int) -> dict[str, float]:
        """The metrics of the anomalous pixels of a group against the normal pixels of all images.

        Those of a whole test set are the means of those of its groups, weighted by the numbers of
        anomalous pixels and of regions. It goes by the last `compute`.

        Args:
            group: the number of the group, as in `update`, at least 0.

        Returns:
            As `compute`; empty if the group has no anomalous pixel, or there is no normal one.

        Example:
            >>> maps, metric = torch.tensor([[[0.1, 0.9]], [[0.8, 0.2]]]), PixelMetrics()
            >>> metric.update(maps, torch.tensor([[[0, 1]], [[0, 1]]]), torch.tensor([4, 7]))
            >>> _ = metric.compute()
            >>> metric.of(4)["pixel_auroc"], metric.of(7)["pixel_auroc"]
            (1.0, 0.5)
        """
        if group >= self._parts.shape[2] or not self._negatives:
            return {}
        (auroc, pixels), (aupro, regions) = self._parts[:, :, group]
        if not pixels:
            return {}
        return {
            "pixel_auroc": min(1.0, float(auroc / pixels)),
            "pixel_aupro": min(1.0, float(aupro / regions)),
        }


def _overlap(limit: float) -> _Curve:
    """The curve to which every region contributes equally, however large it is."""
    if not 0 < limit <= 1:
        raise ValueError(f"limit must be in (0, 1], got {limit}")
    return _Curve(limit, REGIONS)


def _area_under_ramp(start: np.ndarray, end: np.ndarray, limit: float) -> np.ndarray:
    """Area from 0 to ``limit`` under a line that rises from 0 at ``start`` to 1 at ``end``."""
    climbed = np.clip(limit - start, 0, end - start)
    # start and end are whole numbers; if they are equal, climbed is 0 and the 1 avoids 0 / 0.
    area: np.ndarray = np.maximum(limit - end, 0) + climbed**2 / (2 * np.maximum(end - start, 1))
    return area


def _blocks(sizes: list[int], at_least: int) -> Iterator[slice]:
    """Slices of consecutive chunks with a total of at least ``at_least`` each, except the last."""
    start = total = 0
    for stop, size in enumerate(sizes, 1):
        total += size
        if total >= at_least or stop == len(sizes):
            yield slice(start, stop)
            start, total = stop, 0
