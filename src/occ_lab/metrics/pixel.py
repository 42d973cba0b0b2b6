"""Exact pixel metrics over batches and processes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from occ_lab.metrics.base import OrderMetric, arrays, checked
from occ_lab.metrics.packing import pack, unpack
from occ_lab.utils.processes import distributed

# Neighbours within an image only: the first axis counts the images of a batch.
_EIGHT_NEIGHBOURS = np.zeros((3, 3, 3), dtype=bool)
_EIGHT_NEIGHBOURS[1] = True

# How much `compute` processes at once: it passes over the negatives a few times in little memory.
POSITIVES_AT_ONCE = 2**21
BYTES_AT_ONCE = 2**24  # of packed negatives: 2**23 float32


class _PixelMetric(OrderMetric):
    """Area under a curve of weighted true positives against false positives, up to a limit.

    A positive pixel of score ``s`` and weight ``w`` raises the curve by ``w``: linearly between the
    number of false positives above ``s`` and the number at or above ``s`` (a straight line through
    ties). The area is therefore a sum over the positive pixels, each of which only needs two counts
    of negatives. The curve itself is never built.

    Nearly all pixels are negative, so the negatives are stored in half of their size (`pack`).
    """

    positives: list[Tensor]  # scores
    areas: list[Tensor]  # of the regions that the positive pixels belong to
    owners: list[Tensor]  # the indices of their images; -1 where they are not known
    packed_lows: list[Tensor]  # the negatives, in the three parts that `pack` returns
    packed_heads: list[Tensor]
    packed_runs: list[Tensor]

    def __init__(self) -> None:
        super().__init__(
            *("positives", "areas", "owners", "packed_lows", "packed_heads", "packed_runs")
        )
        self._reset_parts()

    def reset(self) -> None:
        """Remove all batches."""
        super().reset()
        self._reset_parts()

    def _reset_parts(self) -> None:
        # Of the last `_areas`, for each curve and image: area over limit, and weight.
        self._parts = np.zeros((0, 2, 0))

    def update(self, maps: Tensor, masks: Tensor, indices: Tensor | None = None) -> None:
        """Add a batch.

        Args:
            maps: anomaly maps, float ``[B, h, w]``; higher is more anomalous. The size may change
                between batches, but the dtype must not.
            masks: bool ``[B, h, w]``, true where a pixel is anomalous.
            indices: of the images, int ``[B]``, for `PixelMetrics.of`; None if it is not asked.

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
        positives, negatives = parted(maps, marked)
        self._append(self.positives, positives)
        self._append(self.areas, np.bincount(regions)[regions].astype(np.int32))
        of = np.full(len(maps), -1) if indices is None else indices.cpu().numpy()
        self._append(self.owners, np.repeat(of, inside.sum((1, 2))).astype(np.int32))
        lows, heads, runs = pack(negatives)
        self._append(self.packed_lows, lows)
        self._append(self.packed_heads, heads)
        self._append(self.packed_runs, runs)

    def _append(self, state: list[Tensor], array: np.ndarray) -> None:
        # Processes exchange what is on their devices; without them it would only go back and forth.
        kept = torch.from_numpy(array)
        state.append(kept.to(self.device) if distributed() else kept)

    def _areas(self, *curves: _Curve) -> list[Tensor]:
        """The area of each curve in 0..1, float64 scalars; NaN unless both classes are present."""
        positives, regions, owners = map(arrays, (self.positives, self.areas, self.owners))
        n_negatives = sum(int(runs.sum(dtype=np.int64)) for runs in arrays(self.packed_runs))
        limits = np.array([curve.limit * n_negatives for curve in curves])
        area, total = np.zeros(len(curves)), np.zeros(len(curves))
        images = 1 + max((int(of.max()) for of in owners if len(of)), default=-1)
        self._parts = parts = np.zeros((len(curves), 2, images))
        for block in _blocks([len(chunk) for chunk in positives], POSITIVES_AT_ONCE):
            scores = np.concatenate(positives[block])
            order = np.argsort(scores)
            below, up_to = self._count_negatives(scores[order])
            sizes = np.concatenate(regions[block])[order].astype(np.float64)
            of = np.concatenate(owners[block])[order]
            known = of >= 0
            for index, curve in enumerate(curves):
                weights = curve.weights(sizes)
                ramps = _area_under_ramp(n_negatives - up_to, n_negatives - below, limits[index])
                area[index] += weights @ ramps
                total[index] += weights.sum()
                for part, values in enumerate((weights * ramps / (limits[index] or 1.0), weights)):
                    parts[index, part] += np.bincount(of[known], values[known], images)
        most = limits * total
        # Rounding must not lead to an area above 1.
        values = np.minimum(area / most, 1.0) if most.all() else np.full(len(curves), np.nan)
        return [torch.tensor(value, dtype=torch.float64) for value in values]

    def _count_negatives(self, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The numbers of negatives below, and at or below, each of the sorted scores."""
        packed = [arrays(s) for s in (self.packed_lows, self.packed_heads, self.packed_runs)]
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
        weights: computes the weights of pixels from the areas ``[N]`` of their regions, on any
            scale.
    """

    limit: float
    weights: Callable[[np.ndarray], np.ndarray]


_ROC = _Curve(1.0, np.ones_like)


class PixelAUROC(_PixelMetric):
    """Area under the ROC curve of all pixels of all images, in 0..1; ties count half.

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
    published code, the overlap itself is not rescaled.

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

    def of(self, images: Sequence[int]) -> dict[str, float]:
        """The metrics of the anomalous pixels of some images against the normal pixels of all.

        Those of a whole test set are the means of those of its parts, weighted by the numbers of
        anomalous pixels and of regions. It goes by the last `compute`.

        Args:
            images: their indices, as in `update`.

        Returns:
            As `compute`; empty if the images have no anomalous pixel, or there is no normal one.

        Example:
            >>> maps, metric = torch.tensor([[[0.1, 0.9]], [[0.8, 0.2]]]), PixelMetrics()
            >>> metric.update(maps, torch.tensor([[[0, 1]], [[0, 1]]]), torch.tensor([4, 7]))
            >>> _ = metric.compute()
            >>> metric.of([4])["pixel_auroc"], metric.of([7])["pixel_auroc"]
            (1.0, 0.5)
        """
        kept = [index for index in images if index < self._parts.shape[2]]
        area, weight = self._parts[:, :, kept].sum(2).T
        if not weight.all() or not len(weight) or not self.packed_runs:
            return {}
        return {
            "pixel_auroc": min(1.0, float(area[0] / weight[0])),
            "pixel_aupro": min(1.0, float(area[1] / weight[1])),
        }


def _overlap(limit: float) -> _Curve:
    """The curve to which every region contributes equally, however large it is."""
    if not 0 < limit <= 1:
        raise ValueError(f"limit must be in (0, 1], got {limit}")
    return _Curve(limit, np.reciprocal)


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
