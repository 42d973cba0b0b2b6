"""All metrics of a test pass, by the names under which they are recorded."""

from __future__ import annotations

from torch import Tensor, nn
from torchmetrics import MetricCollection

from occ_lab.metrics.image import ImageAP, ImageAUROC, ImageF1Max
from occ_lab.metrics.pixel import PixelMetrics


class Evaluation(nn.Module):
    """Image metrics, and pixel metrics where there are masks."""

    def __init__(self) -> None:
        super().__init__()
        self.image = MetricCollection(
            {"image_auroc": ImageAUROC(), "image_ap": ImageAP(), "image_f1max": ImageF1Max()},
            compute_groups=[["image_auroc", "image_ap", "image_f1max"]],
        )
        self.has_pixels = False
        self.pixel = PixelMetrics()

    def update(
        self, scores: Tensor, labels: Tensor, maps: Tensor | None, masks: Tensor | None
    ) -> None:
        """Add image scores ``[B]``, labels ``[B]`` and, if any, maps and masks ``[B, h, w]``."""
        self.image.update(scores, labels)
        if maps is not None and masks is not None:
            self.pixel.update(maps, masks)
            self.has_pixels = True

    def compute(self) -> dict[str, float]:
        """The metrics in 0..1 of all that was added.

        Image metrics need both kinds of image, pixel metrics both kinds of pixel; what cannot be
        told is absent.
        """
        values = self.image.compute() | (self.pixel.compute() if self.has_pixels else {})
        return {name: float(value) for name, value in values.items() if not value.isnan()}

    def reset(self) -> None:
        """Forget what was added."""
        self.image.reset()
        self.pixel.reset()
        self.has_pixels = False
