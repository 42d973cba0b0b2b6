"""All metrics of a test pass, by their names in the results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torchmetrics import MetricCollection

from occ_lab.data.batches import Batch
from occ_lab.features.regions import inside
from occ_lab.metrics.image import ImageAP, ImageAUROC, ImageF1Max
from occ_lab.metrics.limits import AUPRO_LIMIT
from occ_lab.metrics.pixel import PixelMetrics
from occ_lab.metrics.saturation import saturating
from occ_lab.metrics.segmentation import PixelSegF1
from occ_lab.postprocessing.maps import on_grid


class Evaluation(nn.Module):
    """Image metrics, and pixel metrics if there are masks.

    Args:
        aupro_limit: the false-positive rate up to which AUPRO is computed, in (0, 1].

    Raises:
        ValueError: the limit is out of range.

    Example:
        >>> import torch
        >>> evaluation = Evaluation()
        >>> scores, labels = torch.tensor([0.1, 0.4, 0.3, 0.9]), torch.tensor([0, 0, 1, 1])
        >>> evaluation.update(scores, labels, None, None)
        >>> {name: round(value, 3) for name, value in evaluation.compute().items()}
        {'image_ap': 0.833, 'image_auroc': 0.75, 'image_f1max': 0.8}
    """

    def __init__(self, aupro_limit: float = AUPRO_LIMIT) -> None:
        super().__init__()
        self.image = MetricCollection(
            {"image_auroc": ImageAUROC(), "image_ap": ImageAP(), "image_f1max": ImageF1Max()},
            compute_groups=[["image_auroc", "image_ap", "image_f1max"]],
        )
        self.has_pixels = False
        self.pixel = PixelMetrics(aupro_limit)
        self.aupro_limit = aupro_limit
        self.threshold: float | None = None
        self.segmentation = PixelSegF1(0.0)
        self.groups: dict[str, int] = {}
        self._group_of: Tensor | None = None  # of each image

    def group(self, images: Mapping[str, Sequence[int]], count: int) -> None:
        """Compute pixel metrics for groups of images too, such as those of one kind of defect.

        It holds for all later images, also after `reset`.

        Args:
            images: the indices of the images of each group, by its name.
            count: the number of images.
        """
        self.groups = {name: number for number, name in enumerate(images)}
        self._group_of = torch.full((count,), -1)
        for name, own in images.items():
            self._group_of[list(own)] = self.groups[name]
        self.segment(self.threshold)

    def segment(self, threshold: float | None) -> None:
        """Compute the F1 of the pixels at a threshold too, see `PixelSegF1`.

        It holds for all later images, also after `reset`.

        Args:
            threshold: from normal images alone, see `segmentation_threshold`; None for no such F1.
        """
        self.threshold = threshold
        made = PixelSegF1(threshold or 0.0, len(self.groups))
        self.segmentation = made.to(self.pixel.device)  # on which processes exchange its counts

    def _groups(self, indices: Tensor | None) -> Tensor | None:
        known = self._group_of is not None and indices is not None
        return self._group_of[indices.cpu()] if known else None  # type: ignore[index,union-attr]

    def update(
        self,
        scores: Tensor,
        labels: Tensor,
        maps: Tensor | None,
        masks: Tensor | None,
        indices: Tensor | None = None,
        gains: Tensor | None = None,
    ) -> None:
        """Add a batch.

        Args:
            scores: image scores, float ``[B]``; higher is more anomalous.
            labels: ``[B]``, 0 normal, 1 anomalous.
            maps: anomaly maps, float ``[B, h, w]``; None if there are none.
            masks: bool ``[B, h, w]``, true where a pixel is anomalous; None if there are none.
            indices: of the images, int ``[B]``, which say to which `group` they belong.
            gains: of defects whose overlap saturates, float ``[B, h, w]``, see `saturating`; None
                if there are none.

        Raises:
            InputError: a score is NaN.
            ValueError: the shapes do not match.
        """
        self.image.update(scores, labels)
        if maps is not None and masks is not None:
            self._update_pixels(maps, masks, self._groups(indices), labels == 0, gains)

    def update_batch(self, batch: Batch, maps: Tensor | None, scores: Tensor) -> None:
        """Add a tested batch; pixels outside of its images do not count.

        Args:
            batch: a batch with ``label``, and optionally ``index``, ``mask``, ``regions`` and
                ``box``, see `Detector`.
            maps: ``[B, h, w]``, or None.
            scores: ``[B]``.
        """
        masks, boxes, indices = (batch.get(name) for name in ("mask", "box", "index"))
        if maps is not None and masks is not None and masks.shape != maps.shape:
            masks = on_grid(masks, (maps.shape[-2], maps.shape[-1]))
        gains = None
        if maps is not None and masks is not None and "regions" in batch:
            gains = torch.stack(list(map(gains_of, maps, masks, batch["regions"])))
        if boxes is None or maps is None or masks is None:
            self.update(scores, batch["label"], maps, masks, indices, gains)
            return
        self.image.update(scores, batch["label"])
        groups = self._groups(indices)
        of = torch.full((len(maps),), -1) if groups is None else groups
        facts = (each[:, None, None].expand(maps.shape) for each in (of, batch["label"] == 0))
        parts = (maps, masks, *facts, *([] if gains is None else [gains]))
        for own, marked, owners, normal, *gained in inside(boxes, *parts):
            self._update_pixels(own, marked, owners[:, 0, 0], normal[:, 0, 0], *gained)

    def _update_pixels(
        self,
        maps: Tensor,
        masks: Tensor,
        groups: Tensor | None,
        normal: Tensor,
        gains: Tensor | None = None,
    ) -> None:
        self.pixel.update(maps, masks, groups, normal, gains)
        if self.threshold is not None:
            self.segmentation.update(maps, masks, groups)
        self.has_pixels = True

    def compute(self) -> dict[str, float]:
        """The metrics of all batches, by name, in 0..1.

        Image metrics need normal and anomalous images, and pixel metrics both kinds of pixels. A
        metric that cannot be computed is left out.
        """
        values = self.image.compute() | (self.pixel.compute() if self.has_pixels else {})
        if self.has_pixels and self.threshold is not None:
            values["pixel_segf1"] = self.segmentation.compute()
        return {name: float(value) for name, value in values.items() if not value.isnan()}

    def pixels_of(self, name: str) -> dict[str, float]:
        """The pixel metrics of a `group` of images after `compute`, see `PixelMetrics.of`."""
        if not self.has_pixels:
            return {}
        group = self.groups[name]
        found = self.pixel.of(group)
        if found and self.threshold is not None:
            found["pixel_segf1"] = self.segmentation.of(group)
        return found

    def reset(self) -> None:
        """Remove all batches."""
        self.image.reset()
        self.pixel.reset()
        self.segmentation.reset()
        self.has_pixels = False


def gains_of(scores: Tensor, marked: Tensor, regions: Sequence[tuple[Tensor, float]]) -> Tensor:
    """As `saturating`, of regions that may have another size than the map.

    Args:
        scores: the anomaly map, float ``[h, w]``.
        marked: the anomalous pixels of the map, bool ``[h, w]``.
        regions: as in a batch, see `occ_lab.data.images_dataset.TaskImages`.
    """
    size = (scores.shape[0], scores.shape[1])
    own = [
        (mask if mask.shape == scores.shape else on_grid(mask[None], size)[0], fraction)
        for mask, fraction in regions
    ]
    return saturating(scores, [(mask & marked, fraction) for mask, fraction in own])
