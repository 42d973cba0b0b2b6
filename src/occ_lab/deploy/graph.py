"""A trained detector as one inference module: images in, scores and maps out."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from occ_lab.data.tiling import Tiles
from occ_lab.data.transforms import Frame, Preprocessing, WholeImage
from occ_lab.deploy.resize import resized
from occ_lab.deploy.whole import axis, fitted, inside_scores
from occ_lab.detector import Detector
from occ_lab.postprocessing.maps import axis_matrices
from occ_lab.utils.errors import InputError


class Deployed(nn.Module):
    """The module that is exported: every step from an image to its score as graph operations.

    Args:
        detector: the trained detector, on the CPU.
        raw: whether it takes decoded images and resizes them itself.

    Attributes:
        frame: brings images to one size.
        size: height and width of the network's input.
        has_maps: whether there are anomaly maps; otherwise whole images are scored.
        grid: H and W of the score maps.
        rows: the matrix ``[h, H]`` that upsamples and smooths columns, if there are maps.
        columns: the same for their rows, ``[w, W]``.

    Raises:
        InputError: it would take decoded images, keep them whole, and score embeddings; this would
            require a network for images of any size.
    """

    rows: Tensor
    columns: Tensor

    @torch.no_grad()
    def __init__(self, detector: Detector, raw: bool) -> None:
        super().__init__()
        self.detector = detector
        self.raw = raw
        self.frame: Frame = detector.frame
        self.size = self.frame.size
        height, width = detector.patch_scores(torch.zeros(1, 3, *self.size)).shape[-2:]
        self.grid = (height, width)
        self.has_maps = self.grid != (1, 1)
        self.whole = raw and isinstance(self.frame, WholeImage)
        if self.whole and not self.has_maps:
            raise InputError(
                "input: a raw file of a detector that scores whole images of any shape would need "
                "a network for every size; export tensor, and resize images as the detector does"
            )
        if self.whole and detector.postprocess.image == "patches":
            raise InputError(
                "input: a raw file of images of any shape computes the image score from the map, "
                "and this detector from the scores of patches; export tensor instead"
            )
        self.tiled = isinstance(self.frame, Tiles)
        if self.has_maps and not self.tiled:
            # These are computed here, with NumPy, which cannot be traced.
            matrices = axis_matrices(self.grid, self.size, detector.postprocess.sigma)
            for name, matrix in zip(("rows", "columns"), matrices, strict=True):
                self.register_buffer(name, matrix.float())

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        """Score a batch of images.

        Args:
            image: raw: uint8 ``[N, h, w, 3]``, RGB, of any size, or tiles; otherwise float32
                ``[N, 3, *size]`` in 0..1, resized as by the detector and filling the frame.

        Returns:
            ``score``, float32 ``[N]``; if there are maps, ``map``, float32 ``[N, *size]``; and for
            raw images that are kept whole ``box``, int64 ``[4]``: top, left, height and width of
            the images in the map, which is zero around them. For tiles there is only ``map``,
            float32 ``[N, H, W]``: scores to be stitched to those of an image.
        """
        if self.tiled:
            if self.raw:
                image = image.permute(0, 3, 1, 2).float() / 255
            return {"map": self.detector.patch_scores(image)}
        if self.whole:
            return self._whole(image)
        if self.raw:
            assert isinstance(self.frame, Preprocessing)
            image = resized(image, self.frame.resize, self.frame.crop) / 255
        scores = self.detector.patch_scores(image)
        maps = self.rows @ scores @ self.columns.T if self.has_maps else None
        found = self.detector.postprocess.image_scores(scores, maps)
        return {"score": found} if maps is None else {"score": found, "map": maps}

    def _whole(self, image: Tensor) -> dict[str, Tensor]:
        """Score raw images of one size that are kept whole."""
        pixels, box = fitted(image, self.size)
        scores = self.detector.patch_scores(pixels / 255)
        post = self.detector.postprocess
        rows, columns = (
            axis(self.grid[of], self.size[of], post.sigma, box[of], box[of + 2]) for of in (0, 1)
        )
        maps = rows @ scores @ columns.T
        return {"score": inside_scores(maps, box, post.image, post.top), "map": maps, "box": box}
