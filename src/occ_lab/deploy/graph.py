"""A trained detector as one module without training: images in, scores and maps out."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from occ_lab.deploy.resize import resized
from occ_lab.inference.predictor import TrainedDetector
from occ_lab.postprocessing.maps import axis_matrices


class Deployed(nn.Module):
    """What is exported: every step from an image to its score, in operations of a graph.

    Args:
        trained: a detector on the CPU.
        raw: whether it takes images as they are decoded, and resizes and crops them itself.

    Attributes:
        rows: upsampling and smoothing of the maps' columns, ``[crop, H]``; absent where whole
            images are scored.
        columns: of their rows, ``[crop, W]``; likewise.
    """

    rows: Tensor
    columns: Tensor

    @torch.no_grad()
    def __init__(self, trained: TrainedDetector, raw: bool) -> None:
        super().__init__()
        detector = trained.detector
        self.detector = detector
        self.raw = raw
        self.resize, self.crop = int(trained.cfg.dataset.resize), int(trained.cfg.dataset.crop)
        grid = detector(torch.zeros(1, 3, self.crop, self.crop)).shape[-2:]
        self.has_maps = grid != (1, 1)
        if self.has_maps:
            # Made here once: NumPy, which computes them, cannot be traced.
            matrices = axis_matrices(grid, detector.size, detector.postprocess.sigma)
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
        scores = self.detector(image)
        maps = self.rows @ scores @ self.columns.T if self.has_maps else None
        found = self.detector.postprocess.image_scores(scores, maps)
        return {"score": found} if maps is None else {"score": found, "map": maps}
