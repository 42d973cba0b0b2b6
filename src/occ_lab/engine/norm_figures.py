"""Figures from the maps of a norm study: AUROCs over norms, and the positions of test features."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.metrics import roc_auc_score
from torch import Tensor

from occ_lab.features.regions import inside, valid_positions
from occ_lab.metrics import ImageAUROC, PixelAUROC
from occ_lab.objectives.norm.domain import measured_end
from occ_lab.objectives.norm.drawn import length_and_cosine
from occ_lab.objectives.norm.norm_maps import integrated
from occ_lab.postprocessing.postprocess import PostProcess
from occ_lab.reporting.norm_plots import Cloud

DROP = 0.01  # the fall of the AUROC at which the measured domain ends
IMAGES = 32  # upsampled at a time


@dataclass(frozen=True)
class NormScores:
    """The maps of a task's test images: T times, N images on a grid of H × W.

    Attributes:
        spread: s₀², ``[T, N, H, W]``.
        constant: s₁, ``[T, N, H, W]``.
        means: the means of s₀² and s₁² over the training positions, ``[2, T]``.
        drawn: the output of `DrawnMaps`, ``[3, N, H, W]``.
        labels: ``[N]``, 1 anomalous.
        masks: bool ``[N, h, w]``, or None.
        postprocess: computes image scores and anomaly maps from scores.
        size: height and width of the anomaly maps.
        boxes: the parts of them that the images fill, int64 ``[N, 4]``; None if they fill them.
    """

    spread: Tensor
    constant: Tensor
    means: Tensor
    drawn: Tensor
    labels: Tensor
    masks: Tensor | None
    postprocess: PostProcess
    size: tuple[int, int]
    boxes: Tensor | None = None

    def aurocs(self, times: Sequence[int], norm: float, pixels: bool = True) -> dict[str, float]:
        """AUROCs at one norm.

        Args:
            times: the index of a time, or those of several times, which are integrated.
            norm: the norm of the target.
            pixels: whether to compute the pixel AUROC if there are masks.

        Returns:
            ``image_auroc`` and, if computed, ``pixel_auroc``, in 0..1.
        """
        image, pixel = ImageAUROC(), PixelAUROC()
        masks = self.masks if pixels else None
        spread, constant = integrated(
            self.spread[times], self.constant[times], self.means[:, times], norm
        )
        maps = (spread + norm**2 * constant).sqrt()
        for indices in torch.split(torch.arange(len(self.labels)), IMAGES):
            boxes = None if self.boxes is None else self.boxes[indices]
            full, image_scores = self.postprocess.framed(maps[indices], self.size, boxes)
            image.update(image_scores, self.labels[indices])
            if full is not None and masks is not None:
                for own, marked in inside(boxes, full, masks[indices]):
                    pixel.update(own, marked)
        figures = {"image_auroc": float(image.compute())}
        if masks is not None:
            figures["pixel_auroc"] = float(pixel.compute())
        return figures

    def over_norms(
        self, times: Sequence[int], norms: Sequence[float], end: float
    ) -> dict[str, Any]:
        """The AUROCs at each norm, and how well the estimated domain agrees with them.

        Args:
            times: the index of a time, or those of several times, which are integrated.
            norms: the norms of the target, in ascending order.
            end: the estimated upper end of the domain.
        """
        columns = [self.aurocs(times, norm) for norm in norms]
        grid = {name: [figures[name] for figures in columns] for name in columns[0]}
        image = grid["image_auroc"]
        best = int(np.argmax(image))
        at_end, at_1 = (
            self.aurocs(times, norm, pixels=False)["image_auroc"] for norm in (end, 1.0)
        )
        measured = measured_end(norms, image, DROP)
        return {
            **grid,
            "domain": {"start": 0.0, "end": end},
            "agreement": {
                "best_norm": norms[best],
                "auroc_at_best": image[best],
                "auroc_at_1": at_1,
                "auroc_at_end": at_end,
                "lost_at_end": image[best] - at_end,
                "measured_end": measured,
                "octaves_off": None if measured is None else math.log2(end / measured),
            },
        }

    def cloud(self, norm: float) -> Cloud:
        """The test positions relative to a target of the given norm.

        All positions of normal images are normal. Anomalous positions are those that a mask
        touches, or without masks all positions of anomalous images. Other positions are left out.
        """
        length, cosine = length_and_cosine(self.drawn, norm)
        normal_image = (self.labels == 0)[:, None, None].expand(length.shape)
        anomalous = ~normal_image
        if self.masks is not None:
            cells = F.adaptive_max_pool2d(self.masks.float()[:, None], length.shape[-2:])
            anomalous = cells[:, 0] > 0
        chosen = normal_image | anomalous
        if self.boxes is not None:
            chosen &= valid_positions(self.boxes, self.size, length.shape[-2:])
        lengths, cosines = (x[chosen].double().numpy() for x in (length, cosine))
        kinds = anomalous[chosen].numpy()
        scores = {
            "angle": -cosines,
            "length": np.abs(lengths - norm),
            "score": lengths**2 - 2 * norm * lengths * cosines,  # ‖φ − c‖² minus the norm²
        }
        aurocs = {name: float(roc_auc_score(kinds, values)) for name, values in scores.items()}
        return Cloud(norm, lengths, cosines, kinds, aurocs)
