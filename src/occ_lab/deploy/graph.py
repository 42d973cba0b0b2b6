"""A trained detector as one module without training: images in, scores and maps out."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from occ_lab.deploy.resize import resized
from occ_lab.detector import Detector
from occ_lab.postprocessing.maps import axis_matrices


class Deployed(nn.Module):
    """What is exported: every step from an image to its score, in operations of a graph.

    Args:
        detector: trained, on the CPU.
        raw: whether it takes images as they are decoded, and resizes and crops them itself.

    Attributes:
        resize: pixels a side after the resize.
        crop: pixels a side after the crop.
        has_maps: whether there are anomaly maps; otherwise whole images are scored.
        rows: upsampling and smoothing along the columns of the maps, ``[crop, H]``, if there are
            any.
        columns: the same along their rows, ``[crop, W]``.
    """

    rows: Tensor
    columns: Tensor

    @torch.no_grad()
    def __init__(self, detector: Detector, raw: bool) -> None:
        super().__init__()
        self.detector = detector
        self.raw = raw
        self.resize, self.crop = detector.frame.resize, detector.frame.crop
        size = (self.crop, self.crop)
        height, width = detector.patch_scores(torch.zeros(1, 3, *size)).shape[-2:]
        self.has_maps = (height, width) != (1, 1)
        if self.has_maps:
            # Computed once, here: NumPy, which does it, cannot be traced.
            matrices = axis_matrices((height, width), size, detector.postprocess.sigma)
            for name, matrix in zip(("rows", "columns"), matrices, strict=True):
                self.register_buffer(name, matrix.float())

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        """Score a batch of images.

        Args:
            image: raw: uint8 ``[N, h, w, 3]``, RGB; else float32 ``[N, 3, crop, crop]`` in 0..1,
                resized and cropped.

        Returns:
            ``score``, float32 ``[N]``; and ``map``, float32 ``[N, crop, crop]``, where the detector
            has maps.
        """
        if self.raw:
            image = resized(image, self.resize, self.crop) / 255
        scores = self.detector.patch_scores(image)
        maps = self.rows @ scores @ self.columns.T if self.has_maps else None
        found = self.detector.postprocess.image_scores(scores, maps)
        return {"score": found} if maps is None else {"score": found, "map": maps}
