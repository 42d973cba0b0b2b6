"""Segmentation at a threshold from the maps of normal images alone, as MVTec AD 2 measures it."""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics import Metric

from occ_lab.features.regions import alike
from occ_lab.metrics.base import checked

DEVIATIONS = 3  # above the mean (Heckler-Kram et al. 2025, arXiv 2503.21622)


def pixel_moments(maps: Tensor, boxes: Tensor | None = None) -> Tensor:
    """Number, mean and sum of squared deviations of the pixel scores of each map.

    Args:
        maps: float ``[B, h, w]`` on any device.
        boxes: the parts that the images fill, ``[B, 4]``; None if they fill the maps.

    Returns:
        float64 ``[B, 3]`` on the CPU.

    Example:
        >>> pixel_moments(torch.tensor([[[1.0, 3.0]]]))
        tensor([[2., 2., 2.]], dtype=torch.float64)
    """
    found = torch.empty(len(maps), 3, dtype=torch.float64)
    whole = torch.tensor([[0, 0, *maps.shape[1:]]]).expand(len(maps), 4)
    for (top, left, height, width), images in alike(whole if boxes is None else boxes):
        own = maps[images.to(maps.device), top : top + height, left : left + width]
        scores = own.detach().cpu().double().flatten(1)
        mean = scores.mean(1)
        squares = (scores - mean[:, None]).square().sum(1)
        found[images] = torch.stack([torch.full_like(mean, scores.shape[1]), mean, squares], 1)
    return found


def segmentation_threshold(moments: Tensor) -> float:
    """The mean plus three standard deviations of all pixel scores of normal images.

    The moments of the images are merged (Chan, Golub, LeVeque 1979), so that no pixel is stored.

    Args:
        moments: of each image, as `pixel_moments` returns them, float64 ``[n, 3]``.

    Example:
        >>> segmentation_threshold(pixel_moments(torch.tensor([[[0.0]], [[2.0]]])))
        4.0
    """
    counts, means, squares = moments.T
    count = counts.sum()
    mean = (counts * means).sum() / count
    variance = (squares.sum() + (counts * (means - mean).square()).sum()) / count
    return float(mean + DEVIATIONS * variance.sqrt())


class PixelSegF1(Metric):
    """F1 of all pixels of all images at one threshold, in 0..1.

    MVTec AD 2 (Heckler-Kram et al. 2025) takes the threshold from normal validation images, see
    `segmentation_threshold`. Only counts are stored.

    Args:
        threshold: pixels with higher scores are marked.
        groups: the number of groups of images, see `of`.

    Example:
        >>> metric = PixelSegF1(threshold=0.25)
        >>> maps, masks = torch.tensor([[[0.1, 0.4], [0.3, 0.9]]]), torch.tensor([[[0, 0], [1, 1]]])
        >>> metric.update(maps, masks)
        >>> metric.compute()
        tensor(0.8000, dtype=torch.float64)
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False

    found: Tensor  # anomalous pixels that are marked, of each group, then of images without one
    missed: Tensor  # likewise, those that are not
    false: Tensor  # normal pixels that are marked, of all images

    def __init__(self, threshold: float, groups: int = 0) -> None:
        super().__init__()
        self.threshold = threshold
        for state, size in (("found", groups + 1), ("missed", groups + 1), ("false", 1)):
            self.add_state(state, torch.zeros(size, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, maps: Tensor, masks: Tensor, groups: Tensor | None = None) -> None:
        """Add a batch.

        Args:
            maps: anomaly maps, float ``[B, h, w]``; higher is more anomalous.
            masks: bool ``[B, h, w]``, true where a pixel is anomalous.
            groups: the number of the group of each image, int ``[B]``, −1 for none; None if there
                are none.

        Raises:
            InputError: a score is NaN.
            ValueError: the shapes differ.
        """
        above = checked(maps, masks, "masks") > self.threshold
        marked = masks.to(maps.device).bool()
        of = torch.full((len(maps),), -1) if groups is None else groups.cpu()
        of = of % len(self.found)  # -1 is the last
        for state, pixels in ((self.found, marked & above), (self.missed, marked & ~above)):
            counts = torch.zeros(len(state), dtype=torch.int64)
            counts.index_add_(0, of, pixels.sum((1, 2)).cpu())
            state += counts.to(state.device)
        self.false += (above & ~marked).sum().to(self.false.device)

    def compute(self) -> Tensor:
        """The metric, a float64 scalar on the CPU; NaN without anomalous pixels."""
        return torch.tensor(self._f1(self.found.sum(), self.missed.sum()), dtype=torch.float64)

    def of(self, group: int) -> float:
        """The F1 of the anomalous pixels of a group and the normal pixels of all images.

        Args:
            group: the number of the group, from 0.

        Returns:
            In 0..1; NaN if the group has no anomalous pixel.
        """
        return self._f1(self.found[group], self.missed[group])

    def _f1(self, found: Tensor, missed: Tensor) -> float:
        if not found + missed:
            return float("nan")
        return float(2 * found) / float(2 * found + missed + self.false.sum())
