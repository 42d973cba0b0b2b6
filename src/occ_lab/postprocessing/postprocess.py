"""From score maps to image scores and full-size anomaly maps."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from occ_lab.postprocessing.maps import image_score, upsample_and_smooth
from occ_lab.utils.errors import check_number
from occ_lab.utils.specs import Recorded


class PostProcess(Recorded):
    """Upsample, smooth, and reduce to one score an image.

    Args:
        image: the image score: ``max`` of the anomaly map, or ``top``, the mean of its highest
            share.
        top: that share, above 0 and at most 1.
        sigma: standard deviation of the Gaussian in pixels of the input, at least 0.
    """

    def __init__(
        self, image: Literal["max", "top"] = "max", top: float = 0.01, sigma: float = 4.0
    ) -> None:
        if image not in ("max", "top"):
            raise ValueError(f"image must be max or top, got {image!r}")
        check_number("top", top, above=0, at_most=1)
        check_number("sigma", sigma, at_least=0)
        self.image = image
        self.top = top
        self.sigma = sigma

    def maps(self, scores: Tensor, size: tuple[int, int]) -> Tensor | None:
        """Anomaly maps ``[B, h, w]`` of ``size``; None where scores have one position."""
        if scores.shape[-2:] == (1, 1):
            return None
        return upsample_and_smooth(scores, size, self.sigma)

    def image_scores(self, scores: Tensor, maps: Tensor | None) -> Tensor:
        """Image scores ``[B]`` of scores ``[B, H, W]`` and the maps made of them."""
        return scores.flatten() if maps is None else image_score(maps, self.image, self.top)
