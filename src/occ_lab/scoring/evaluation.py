"""All metrics of a test pass, by the names under which they are recorded."""

from __future__ import annotations

from torch import Tensor, nn
from torchmetrics import MetricCollection

from occ_lab.scoring.metrics import ImageAP, ImageAUROC, ImageF1Max, PixelAUPRO, PixelAUROC


class Evaluation(nn.Module):
    """Image metrics, and pixel metrics where there are masks."""

    def __init__(self) -> None:
        super().__init__()
        self.image = MetricCollection(
            {"image_auroc": ImageAUROC(), "image_ap": ImageAP(), "image_f1max": ImageF1Max()}
        )
        self.pixel = MetricCollection({"pixel_auroc": PixelAUROC(), "pixel_aupro": PixelAUPRO()})

    def update(
        self, scores: Tensor, labels: Tensor, maps: Tensor | None, masks: Tensor | None
    ) -> None:
        """Add image scores ``[B]``, labels ``[B]`` and, if any, maps and masks ``[B, h, w]``."""
        self.image.update(scores, labels)
        if maps is not None and masks is not None:
            self.pixel.update(maps, masks)

    def compute(self) -> dict[str, float]:
        """The metrics in 0..1; those that nothing was seen for are absent.

        Image metrics need both kinds of image, pixel metrics both kinds of pixel.
        """
        seen = [group for group in (self.image, self.pixel) if group_was_updated(group)]
        values = {name: float(value) for group in seen for name, value in group.compute().items()}
        return {name: value for name, value in values.items() if value == value}

    def reset(self) -> None:
        """Forget what was added."""
        self.image.reset()
        self.pixel.reset()


def group_was_updated(group: MetricCollection) -> bool:
    """Whether any metric of ``group`` has seen data."""
    return any(metric.update_called for metric in group.values())
