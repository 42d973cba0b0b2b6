"""The outcome of the test of a task, of one detector or of those of several views together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from occ_lab.data.datamodule import AnomalyDataModule
from occ_lab.data.loading import collate
from occ_lab.data.tiling import Tiles
from occ_lab.data.transforms import Preprocessing
from occ_lab.engine.defects import kinds_of, pixels_by_kind
from occ_lab.engine.fitted import Fitted
from occ_lab.metrics.evaluation import Evaluation
from occ_lab.postprocessing.ensemble import View, ensemble
from occ_lab.postprocessing.postprocess import PostProcess

IMAGES = 32  # upsampled at a time


@dataclass(frozen=True)
class Tested:
    """The test results for the images of a task, in the order of the split.

    Attributes:
        data: the task, with the preprocessing of the maps.
        metrics: in 0..1.
        labels: ``[N]``, 1 anomalous.
        scores: the image scores, ``[N]``.
        patch_scores: the scores of each image ``[H, W]``, before upsampling and smoothing.
        pixels: the pixel metrics of each kind of defect, in 0..1.
        key: see `Fitted.outcome_key`.
    """

    data: AnomalyDataModule
    metrics: dict[str, float]
    labels: Tensor
    scores: Tensor
    patch_scores: Sequence[Tensor]
    pixels: dict[str, dict[str, float]]
    key: str | None = None

    def seen_map(
        self, postprocess: PostProcess, index: int, size: tuple[int, int]
    ) -> np.ndarray | None:
        """The anomaly map of a test image as the network sees it.

        Args:
            postprocess: makes the map.
            index: of the image.
            size: height and width of the image.

        Returns:
            The map, float32 ``[h, w]``; None if the whole image has one score.
        """
        patches, frame = self.patch_scores[index], self.data.preprocessing
        if patches.shape == torch.Size([1, 1]):
            return None
        boxes = self.data.test_images.box_of([index])
        maps, _ = (
            postprocess.stitched(patches, size)
            if isinstance(frame, Tiles)
            else postprocess.framed(patches[None], frame.size, boxes)
        )
        assert maps is not None
        return np.asarray(maps[0].float().cpu().numpy())


def alone(member: Fitted) -> Tested:
    """The result of a single detector's test."""
    recorder = member.recorder
    label, score = recorder.tested("label"), recorder.tested("score")
    maps = recorder.tested_maps()
    outcome, key = recorder.outcome, member.outcome_key
    return Tested(member.data, outcome.metrics, label, score, maps, outcome.pixels, key)


def joined(postprocess: PostProcess, members: Sequence[Fitted]) -> Tested:
    """The combined result of the detectors of all views, in the frame of the first: CFA++."""
    views = []
    for member in members:
        frame = member.data.preprocessing
        assert isinstance(frame, Preprocessing)  # a job with several views has checked this
        views.append(View(frame.resize, frame.crop))
    maps = ensemble(
        [member.recorder.tested("patch_scores") for member in members],
        [member.training_scores() for member in members],
        views,
        frame=views[0],
    )
    data = members[0].data
    labels = members[0].recorder.tested("label")
    size = data.preprocessing.size
    evaluation, scores = Evaluation(members[0].detector.evaluation.aupro_limit), []
    evaluation.group(kinds_of(data.split.test), len(data.split.test))
    for indices in torch.split(torch.arange(len(maps)), IMAGES):
        full = postprocess.maps(maps[indices], size)
        scores.append(postprocess.image_scores(maps[indices], full))
        batch = collate([data.test_images.facts(int(index)) for index in indices])
        evaluation.update_batch(batch, full, scores[-1])
    metrics = evaluation.compute()
    pixels = pixels_by_kind(evaluation)
    return Tested(data, metrics, labels, torch.cat(scores), list(maps), pixels)
