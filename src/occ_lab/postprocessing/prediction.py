"""The output of a detector."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from torch import Tensor

from occ_lab.data.batches import Batch
from occ_lab.metrics.segmentation import pixel_moments


class Scores(NamedTuple):
    """The scores of a detector for N images.

    Attributes:
        score: image scores, larger is more anomalous, float ``[N]``.
        map: anomaly maps, float ``[N, h, w]``; or a list of ``[h, w]`` if images are scored at
            their full size and differ in size; None if the detector scores whole images.
    """

    score: Tensor
    map: Any


@dataclass
class Prediction:
    """The result of ``trainer.predict`` for a batch of B images, on the CPU.

    Attributes:
        score: image scores, larger is more anomalous, float ``[B]``.
        map: anomaly maps at the size of the input, float ``[B, h, w]``; None if the detector scores
            whole images.
        label: 0 normal, 1 anomalous, int ``[B]``; None if the batch has no labels.
        path: the path of each image; None if the batch has no paths.
        index: the index of each image in its dataset, int ``[B]``; None likewise.
        patch_scores: scores ``[B, H, W]`` on the grid of the features, before postprocessing.
        peak: the highest value of each map, float ``[B]``; the image score if there is no map.
        moments: of the pixels of each map, or of the image score if there is no map, float64
            ``[B, 3]``, see `pixel_moments`; None in a test, which does not keep maps.
    """

    score: Tensor
    map: Tensor | None
    label: Tensor | None
    path: list[str] | None
    index: Tensor | None
    patch_scores: Tensor
    peak: Tensor
    moments: Tensor | None = None


def prediction(
    batch: Batch, patch_scores: Tensor, maps: Tensor | None, scores: Tensor, keep_maps: bool = True
) -> Prediction:
    """The results of a batch, moved to the CPU; the maps and their moments only if requested."""
    peak = scores if maps is None else maps.flatten(1).amax(dim=1)
    moments = None
    if keep_maps and maps is None:
        moments = pixel_moments(scores[:, None, None])
    elif keep_maps and maps is not None:
        moments = pixel_moments(maps, batch.get("box"))
    maps = maps if keep_maps else None
    label, index, path = (batch.get(name) for name in ("label", "index", "path"))
    return Prediction(
        scores.cpu(),
        None if maps is None else maps.cpu(),
        None if label is None else label.cpu(),
        None if path is None else list(path),
        None if index is None else index.cpu(),
        patch_scores.cpu(),
        peak.cpu(),
        moments,
    )
