"""Computation of image scores and full-size anomaly maps from score maps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from torch import Tensor

from occ_lab.features.regions import alike, spans
from occ_lab.postprocessing.maps import image_score, smoothed, upsample_and_smooth
from occ_lab.utils.errors import check_number
from occ_lab.utils.specs import Recorded


class PostProcess(Recorded):
    """Upsampling and smoothing of score maps, and one score for each image.

    Args:
        image: the image score: ``max``, the maximum of the anomaly map; ``top``, the mean of its
            highest pixels; or ``patches``, the mean of the highest scores of positions, as they are
            before they are upsampled and smoothed (AnomalyDINO, Damm et al. 2025).
        top: the fraction of pixels or positions that is averaged, above 0 and at most 1.
        sigma: the standard deviation of the Gaussian in pixels of the input, at least 0.

    Raises:
        ValueError: an argument is out of range; the message begins with its name.

    Example:
        >>> import torch
        >>> postprocess = PostProcess(image="top", top=0.01)
        >>> scores = torch.rand(2, 56, 56)
        >>> maps = postprocess.maps(scores, (224, 224))
        >>> maps.shape, postprocess.image_scores(scores, maps).shape
        (torch.Size([2, 224, 224]), torch.Size([2]))
    """

    def __init__(
        self,
        image: Literal["max", "top", "patches"] = "max",
        top: float = 0.01,
        sigma: float = 4.0,
    ) -> None:
        if image not in ("max", "top", "patches"):
            raise ValueError(f"image must be max, top or patches, got {image!r}")
        check_number("top", top, above=0, at_most=1)
        check_number("sigma", sigma, at_least=0)
        self.image = image
        self.top = top
        self.sigma = sigma

    def maps(
        self, scores: Tensor, size: tuple[int, int], box: Sequence[int] | None = None
    ) -> Tensor | None:
        """Compute anomaly maps.

        Args:
            scores: float ``[B, H, W]``.
            size: height h and width w of the maps in pixels.
            box: the part of the maps that the images fill, see `upsample_and_smooth`.

        Returns:
            float32 or wider ``[B, h, w]``, or of the size of the box; None if the scores have a
            single position.
        """
        if scores.shape[-2:] == (1, 1):
            return None
        return upsample_and_smooth(scores, size, self.sigma, box)

    def framed(
        self, scores: Tensor, size: tuple[int, int], boxes: Tensor | None
    ) -> tuple[Tensor | None, Tensor]:
        """Maps and image scores of images that may not fill their frame.

        Args:
            scores: float ``[B, H, W]``.
            size: height h and width w of the frame in pixels.
            boxes: top, left, height and width of each image in the frame, int64 ``[B, 4]``; None
                if all images fill it.

        Returns:
            Maps ``[B, h, w]``, zero outside of the images, or None if the scores have a single
            position; and image scores ``[B]``, in which nothing outside of the images counts.
        """
        if boxes is None or scores.shape[-2:] == (1, 1):
            maps = self.maps(scores, size)
            return maps, self.image_scores(scores, maps)
        framed = found = None
        for box, images in alike(boxes):
            top, left, height, width = box
            own = scores[images.to(scores.device)]
            maps = self.maps(own, size, box)
            assert maps is not None
            if framed is None or found is None:
                framed = maps.new_zeros(len(scores), *size)
                found = maps.new_zeros(len(scores))
            framed[images, top : top + height, left : left + width] = maps
            rows, columns = spans(box, size, scores.shape[-2:])
            inside = own[:, rows[0] : rows[1], columns[0] : columns[1]]
            found[images] = self.image_scores(inside, maps)
        assert found is not None
        return framed, found

    def stitched(self, scores: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Map and image score of an image that was scored in tiles.

        The map stays on the grid of the scores; at the full size of large images it would be slow.

        Args:
            scores: the scores of the whole image, float ``[H, W]``.
            size: height and width of the image in pixels, the unit of sigma.

        Returns:
            A map, float32 ``[1, H, W]``, and a score ``[1]``, both on the CPU.
        """
        maps = smoothed(scores, self.sigma * scores.shape[0] / size[0])[None]
        return maps, self.image_scores(scores[None], maps)

    def image_scores(self, scores: Tensor, maps: Tensor | None) -> Tensor:
        """Compute image scores.

        Args:
            scores: float ``[B, H, W]``.
            maps: the anomaly maps ``[B, h, w]`` of these scores, or None.

        Returns:
            float ``[B]``: computed from the maps, or from the scores with ``patches``; the scores
            themselves if there are no maps.
        """
        if maps is None:
            return scores.flatten()
        if self.image == "patches":
            return image_score(scores, "top", self.top)
        return image_score(maps, self.image, self.top)
