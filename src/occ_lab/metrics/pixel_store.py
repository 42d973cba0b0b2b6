"""The scores of all pixels over batches and processes, exact up to a limit of memory."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from occ_lab.metrics.base import OrderMetric, arrays, checked
from occ_lab.metrics.counting import count_distinct, count_packed, reached
from occ_lab.metrics.packing import pack, unpack
from occ_lab.metrics.positives import Positives, by_pixel
from occ_lab.metrics.rounding import DIGITS, rounded, run_lengths, totals
from occ_lab.utils.memory import MB
from occ_lab.utils.merging import append, join_last, joined_last
from occ_lab.utils.processes import distributed

# Neighbours within an image only: the first axis counts the images of a batch.
_EIGHT_NEIGHBOURS = np.zeros((3, 3, 3), dtype=bool)
_EIGHT_NEIGHBOURS[1] = True

# How much `compute` processes at once: it passes over the negatives a few times in little memory.
POSITIVES_AT_ONCE = 2**21
COUNTED_AT_ONCE = 2**23  # positives, with four numbers each: all negatives are sorted every time
BYTES_AT_ONCE = 2**24  # of packed negatives: 2**23 float32

EXACT_BYTES = 2**28  # of all pixels; those of 2,500 images of 224 × 224 pixels
ENTRIES = 2**21  # counts of rounded scores that are kept before equal ones are added up

log = logging.getLogger(__name__)


class PixelStore(OrderMetric):
    """Stores the scores of anomalous pixels, and those of the others to be counted.

    Nearly all pixels are normal, so these are stored in half of their size (`pack`). Once all
    pixels would take more than `EXACT_BYTES`, scores are rounded to 17 binary digits and only
    counted, so that the memory no longer depends on the number of images, and the time is
    proportional to it. Scores that are then equal are ties.
    """

    positives: list[Tensor]  # scores
    areas: list[Tensor]  # of the regions that the positive pixels belong to
    gains: list[Tensor]  # of the saturation of their defects
    owners: list[Tensor]  # the group of each image with positive pixels; -1 where it has none
    marks: list[Tensor]  # the number of positive pixels of each of these images
    normal_lows: list[Tensor]  # the negatives of normal images, in the parts that `pack` returns
    normal_heads: list[Tensor]
    normal_runs: list[Tensor]
    other_lows: list[Tensor]  # those of other images
    other_heads: list[Tensor]
    other_runs: list[Tensor]
    rounded_negatives: list[Tensor]  # scores
    negative_counts: list[Tensor]
    normal_counts: list[Tensor]  # those of normal images
    rounded_positives: list[Tensor]  # scores
    rounded_owners: list[Tensor]
    positive_pixels: list[Tensor]  # as in `Positives`; likewise the following
    positive_regions: list[Tensor]
    positive_images: list[Tensor]
    positive_defects: list[Tensor]

    of_normal = ("normal_lows", "normal_heads", "normal_runs")
    of_others = ("other_lows", "other_heads", "other_runs")
    exact = ("positives", "areas", "gains", "owners", "marks", *of_normal, *of_others)
    negative = ("rounded_negatives", "negative_counts", "normal_counts")
    positive = (
        *("rounded_positives", "rounded_owners"),
        *("positive_pixels", "positive_regions", "positive_images", "positive_defects"),
    )

    def __init__(self) -> None:
        super().__init__(*self.exact, *self.negative, *self.positive)
        self._reset_sizes()

    def reset(self) -> None:
        """Remove all batches."""
        super().reset()
        self._reset_sizes()

    def _reset_sizes(self) -> None:
        self._bytes = self._entries = 0  # of the pixels, and of the counts that can be added up
        self._sizes: list[int] = []  # in bytes, of the pieces of exact pixels

    def update(
        self,
        maps: Tensor,
        masks: Tensor,
        groups: Tensor | None = None,
        normal: Tensor | None = None,
        gains: Tensor | None = None,
    ) -> None:
        """Add a batch.

        Args:
            maps: anomaly maps, float ``[B, h, w]``; higher is more anomalous. The size may change
                between batches, but the dtype must not.
            masks: bool ``[B, h, w]``, true where a pixel is anomalous.
            groups: a number for each image, int ``[B]``, for `PixelMetrics.of`; −1 or None if it
                is not asked.
            normal: which images are normal, bool ``[B]``; by default those without an anomalous
                pixel.
            gains: of defects whose overlap saturates, float ``[B, h, w]``, see `saturating`; None
                if there are none.

        Raises:
            InputError: a score is NaN.
            ValueError: the shapes differ, or the dtype differs from earlier batches.
        """
        maps = checked(maps, masks, "masks")
        if self.positives and maps.dtype != self.positives[0].dtype:
            raise ValueError(f"maps must stay {self.positives[0].dtype}, got {maps.dtype}")
        marked = masks.to(maps.device).bool()
        inside = marked.cpu().numpy()

        marks = inside.sum((1, 2))
        regions = ndimage.label(inside, _EIGHT_NEIGHBOURS)[0][inside]
        areas = np.bincount(regions)[regions].astype(np.int32)
        gained = np.zeros(len(areas)) if gains is None else gains.cpu().numpy()[inside]
        of = np.full(len(maps), -1) if groups is None else groups.cpu().numpy()
        unmarked = torch.from_numpy(marks == 0) if normal is None else normal
        scores, *negatives = parted(maps, marked, unmarked)
        positives = (
            *(scores, areas, gained.astype(np.float32)),
            *(of[marks > 0].astype(np.int32), marks[marks > 0].astype(np.int32)),
        )
        if not self.positives:  # all processes exchange every state, in its dtype
            self._append_exact(*_no_pixels(scores.dtype))
            self._append_rounded([each[:0] for each in positives], [scores[:0]] * 2)
        if self._bytes > EXACT_BYTES:
            self._append_rounded(positives, negatives)
            return
        self._append_exact(*positives, *pack(negatives[0]), *pack(negatives[1]))
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
        # `blocks` works through these pieces.
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
        self, positives: Sequence[np.ndarray], negatives: Sequence[np.ndarray]
    ) -> None:
        """Add the pixels of a batch to the counts of rounded scores.

        Args:
            positives: the first five of `exact`.
            negatives: the scores of normal images, then those of others, both ascending.
        """
        scores, owners, *weights = by_pixel(*positives)
        self._append(self.positive, *totals((rounded(scores), owners), *weights))
        distinct, counts = zip(*(run_lengths(rounded(each)) for each in negatives), strict=True)
        of_normal = counts[0], np.zeros_like(counts[1])
        self._append(self.negative, *map(np.concatenate, (distinct, counts, of_normal)))
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
        negatives, *counts = map(np.concatenate, self._all(*self.negative))
        scores, owners, *weights = map(np.concatenate, self._all(*self.positive))
        return totals((negatives,), *counts), totals((scores, owners), *weights)

    def _round(self) -> None:
        """Replace all exact scores by counts of rounded ones."""
        batches = zip(*self._all(*self.exact), strict=True)
        self._restart(self.exact, *_no_pixels(arrays(self.positives)[0].dtype))
        self._sizes = [0]
        for state in (*self.negative, *self.positive):  # torchmetrics makes lists tensors
            setattr(self, state, [torch.from_numpy(each) for each in arrays(getattr(self, state))])
        for batch in batches:
            # Several batches together are not in order.
            negatives = [np.sort(unpack(*batch[5:8])), np.sort(unpack(*batch[8:]))]
            self._append_rounded(batch[:5], negatives)

    def negatives(self) -> tuple[int, int]:
        """The numbers of normal pixels of all images, and of normal images."""
        runs = [self._all(state)[0] for state in ("normal_runs", "other_runs")]
        counts = self._all("normal_counts", "negative_counts")
        of_normal, others = (sum(int(each.sum(dtype=np.int64)) for each in own) for own in runs)
        of_normal_rounded, rounded_ones = (sum(int(each.sum()) for each in own) for own in counts)
        return of_normal + others + rounded_ones, of_normal + of_normal_rounded

    def blocks(self) -> Iterator[Positives]:
        """All positives in the order of their scores, many at a time."""
        rounding = any(len(each) for each in self._all("rounded_negatives")[0])
        if rounding:
            self._round()  # what other processes have not rounded
            negative, (scores, owners, *weights) = self._counts()
        elif self._all("positives")[0]:
            scores, owners, *weights = self._in_order()
        else:
            return
        found = reached(scores, weights[0])
        in_group, total_in_group = np.zeros_like(found), np.zeros_like(found)
        for group in np.flatnonzero(np.bincount(owners[owners >= 0])):
            own = owners == group
            in_group[own] = reached(scores[own], weights[0][own])
            total_in_group[own] = weights[0][own].sum()
        total = np.broadcast_to(weights[0].sum(), found.shape)
        every = self.negatives()
        for block, counts in self._counted_blocks(scores, negative if rounding else ()):
            pixels, regions, images, defects = (each[block].astype(np.float64) for each in weights)
            yield Positives(
                *(pixels, regions, images, defects, owners[block]),
                *(every[0] - counts[0][1], every[0] - counts[0][0]),
                *(every[1] - counts[1][1], every[1] - counts[1][0]),
                *(found[block], total[block], in_group[block], total_in_group[block]),
            )

    def _in_order(self) -> list[np.ndarray]:
        """The arrays of `by_pixel` of all exact positives, in the order of their scores."""
        scores, *others = by_pixel(*map(np.concatenate, self._all(*self.exact[:5])))
        order = np.argsort(scores)
        return [each[order] for each in (scores, *others)]

    def _counted_blocks(
        self, scores: np.ndarray, distinct: Sequence[np.ndarray]
    ) -> Iterator[tuple[slice, list[list[np.ndarray]]]]:
        """Blocks of the sorted scores, and for each what `_counted` returns.

        Args:
            scores: ascending, ``[n]``.
            distinct: the negatives as `count_distinct` takes them if they are rounded.
        """
        for start in range(0, len(scores), COUNTED_AT_ONCE):
            part = scores[start : start + COUNTED_AT_ONCE]
            counts = count_distinct(part, *distinct) if len(distinct) else self._counted(part)
            for first in range(0, len(part), POSITIVES_AT_ONCE):
                here = slice(first, first + POSITIVES_AT_ONCE)
                whole = slice(start + first, start + min(first + POSITIVES_AT_ONCE, len(part)))
                yield whole, [[each[here] for each in sides] for sides in counts]

    def _counted(self, scores: np.ndarray) -> list[list[np.ndarray]]:
        """The numbers of negatives below, and at or below, each of the sorted scores.

        Returns:
            Of the negatives of all images, and of those of normal images; int64 ``[n]`` each.
        """
        counts = [
            count_packed(scores, *self._all(*states), at_once=BYTES_AT_ONCE)
            for states in (self.of_normal, self.of_others)
        ]
        return [[one + other for one, other in zip(*counts, strict=True)], counts[0]]


def parted(maps: Tensor, marked: Tensor, normal: Tensor) -> tuple[np.ndarray, ...]:
    """The scores of marked pixels in order, then the ascending ones of all others.

    Args:
        maps: float ``[B, h, w]``.
        marked: bool ``[B, h, w]``, on the same device.
        normal: bool ``[B]``, on any device.

    Returns:
        The scores of marked pixels, of the others of normal images, and of those of other images.

    Example:
        >>> maps = torch.tensor([[[3.0, 2.0, 1.0]], [[5.0, 6.0, 4.0]]])
        >>> parted(maps, maps == 2, torch.tensor([False, True]))[1:]
        (array([4., 5., 6.], dtype=float32), array([1., 3.], dtype=float32))
    """
    if maps.device.type != "cpu":
        return parted_there(maps, marked, normal)
    scores, inside, own = maps.numpy(), marked.numpy(), normal.cpu().numpy().astype(bool)
    others = (np.sort(scores[of][~inside[of]]) for of in (own, ~own))
    return scores[inside], *others


def parted_there(maps: Tensor, marked: Tensor, normal: Tensor) -> tuple[np.ndarray, ...]:
    """As `parted`, with the work done by PyTorch, which suits a GPU; on a CPU it takes longer."""
    own = normal.to(maps.device).bool()
    others = (maps[of][~marked[of]].sort().values.cpu().numpy() for of in (own, ~own))
    return maps[marked].cpu().numpy(), *others


def _no_pixels(dtype: np.dtype[Any]) -> tuple[np.ndarray, ...]:
    """The exact states of a metric without pixels."""
    none, whole = np.empty(0, dtype), np.empty(0, np.int32)
    return none, whole, np.empty(0, np.float32), whole, whole, *pack(none), *pack(none)
