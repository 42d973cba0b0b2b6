"""How well a detector separates normal features from cut-and-pasted ones, see `cut_and_paste`."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from occ_lab.data.batches import Batch, as_batch
from occ_lab.data.datamodule import AnomalyDataModule
from occ_lab.detector import Detector
from occ_lab.features.pasting import cut_and_paste
from occ_lab.features.regions import spans
from occ_lab.metrics.curves import auroc

POSITIONS = 2**8  # the smallest number of normal positions that are compared in each process
IMAGES = 16  # the smallest number of images, for the comparison of trained detectors

Inside = tuple[slice, slice]  # the rows and columns of a map that belong to the images


def usual_box(boxes: Tensor | None, detector: Detector) -> list[int]:
    """The part of the frame that most images fill: top, left, height and width in pixels.

    Args:
        boxes: the box of each image, int64 ``[N, 4]``; None if all images fill the frame.
        detector: the detector that defines the frame.
    """
    if boxes is None:
        return [0, 0, *detector.frame.size]
    kinds, counts = torch.unique(boxes, dim=0, return_counts=True)
    most: list[int] = kinds[counts.argmax()].tolist()
    return most


@torch.no_grad()
def levels_in(
    batches: Iterable[Any], box: Sequence[int], detector: Detector, images: int
) -> list[Tensor]:
    """The levels ``[n, C_l, H_l, W_l]`` of the first images that fill exactly ``box``.

    Args:
        batches: batches of images or of their features.
        box: see `usual_box`.
        detector: computes the levels that are not cached.
        images: the number of images to collect; more if they have fewer than ``POSITIONS``
            positions.

    Returns:
        An empty list if there is no such image.
    """
    found: list[list[Tensor]] = []
    count = 0
    for batch in batches:
        moved = detector.transfer_batch_to_device(as_batch(batch), detector.device, 0)
        levels = detector.levels(moved)
        if "box" in moved:
            same = (moved["box"].cpu() == torch.tensor(box)).all(dim=1)
            levels = [level[same.to(level.device)] for level in levels]
        found.append(levels)
        count += len(found[-1][0])
        enough = max(images, math.ceil(POSITIONS / found[0][0].shape[-2:].numel()))
        if count >= enough:
            found[-1] = [level[: len(level) - (count - enough)] for level in found[-1]]
            break
    return [torch.cat(level) for level in zip(*found, strict=True)] if count else []


def pasted_among(
    normal: Sequence[Tensor], box: Sequence[int], frame: tuple[int, int]
) -> tuple[list[Tensor], Inside]:
    """Cut-and-pasted levels, and the positions that belong to the images.

    Args:
        normal: levels ``[n, C_l, H_l, W_l]``.
        box: the part of the frame that the images fill, see `usual_box`.
        frame: height and width of the frame in pixels.
    """
    top, left, height, width = box
    (first, behind), (begin, end) = spans(box, frame, normal[0].shape[-2:])
    ends = ((top + height) / frame[0], (left + width) / frame[1])
    part = (top / frame[0], left / frame[1], *ends)
    pasted = cut_and_paste(normal, np.random.default_rng(0), part)
    return pasted, (slice(first, behind), slice(begin, end))


def separation(normal: Tensor, pasted: Tensor) -> float:
    """The AUROC in 0..1 of scores ``[n]`` and ``[m]``; 0 if a score is not finite."""
    both = torch.cat([normal, pasted]).float().cpu()
    labels = np.repeat([0, 1], [len(normal), len(pasted)])
    return auroc(both.numpy(), labels) if bool(both.isfinite().all()) else 0.0


@torch.no_grad()
def pasted_auroc(detector: Detector, data: AnomalyDataModule) -> float | None:
    """The AUROC of the positions of normal test images against cut-and-pasted ones.

    Args:
        detector: a trained detector.
        data: the task.

    Returns:
        In 0..1; None without normal test images.
    """
    box = usual_box(data.test_images.tiles().boxes, detector)
    normal = levels_in(normal_batches(data.test_dataloader()), box, detector, IMAGES)
    if not normal:
        return None
    pasted, inside = pasted_among(normal, box, detector.frame.size)
    scores = [detector.score_levels(each)[(..., *inside)].flatten() for each in (normal, pasted)]
    return separation(*scores)


def normal_batches(batches: Iterable[Any]) -> Iterator[Batch]:
    """Batches with the normal images only; for images in tiles, batches of tiles."""
    for given in batches:
        batch = as_batch(given)
        normal = batch["label"] == 0
        if not normal.any():
            continue
        if "tiles" in batch:
            yield from batch["tiles"].batches()
            continue
        yield {
            name: [level[normal] for level in batch[name]]
            if name == "levels"
            else batch[name][normal]
            for name in ("levels", "image", "box")
            if name in batch
        }
