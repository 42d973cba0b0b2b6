"""Explanations of image scores: where in a test image its score comes from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor

from occ_lab.data.datamodule import AnomalyDataModule
from occ_lab.data.images_dataset import TaskImages
from occ_lab.engine.fit import Fitted
from occ_lab.engine.job import Explanations
from occ_lab.explain.nearest import nearest_images
from occ_lab.features.extraction import image_batches
from occ_lab.reporting.explanations import explanation
from occ_lab.reporting.pictures import pixels_of, subject, worst_first
from occ_lab.utils.progress import track

CANDIDATES = 1000  # training images among which the nearest is sought
TOGETHER = 64  # images it is sought for in one pass over them


def write_explanations(
    folder: Path,
    wanted: Explanations,
    member: Fitted,
    scores: np.ndarray,
    labels: np.ndarray,
) -> None:
    """Explain the scores of the worst misses, a picture each.

    An image is held against the training image nearest to it. A grey or blurred one, or the mean
    of all, is no image of the kind: of MVTec AD's transistors the mean scores 10, blurred ones 13,
    defects 5 to 7. The difference explained would be that between two anomalies, and a defect
    hidden by one would make another. From a black image to one on black nothing changes at all for
    a network that normalises contrast.

    Args:
        folder: where to; it is made.
        wanted: the method, and of how many images.
        member: the detector and its task.
        scores: of the test images, float ``[N]``.
        labels: ``[N]``, 1 anomalous.
    """
    folder.mkdir(parents=True, exist_ok=True)
    method = wanted.method
    device = member.trainer.strategy.root_device
    detector = member.detector.to(device).eval()

    def score(image: Tensor) -> Tensor:
        found: Tensor = detector(image.to(detector.dtype)).score.float()
        return found

    places = worst_first(scores, labels)[: wanted.count].tolist()
    pairs = with_nearest(member.data, places, device)
    listed = list(enumerate(places, start=1))
    for (rank, place), (image, nearest) in zip(track(listed, "explanations"), pairs, strict=True):
        values = method(score, image, nearest).float().cpu()
        with torch.no_grad():
            other = float(score(nearest[None]))
        shown = subject(rank, member.data.test_images[place], bool(labels[place]))
        caption = (
            f"{shown.title}   score {scores[place]:.4g}, nearest training image {other:.4g}   "
            f"{method.caption(values)}"
        )
        even = gaussian_filter(values.numpy(), method.grain * len(values))
        picture = explanation(shown, pixels_of(nearest.cpu()), even, caption)
        picture.save(folder / shown.file, compress_level=1)


def with_nearest(
    data: AnomalyDataModule, places: Sequence[int], device: torch.device
) -> Iterator[tuple[Tensor, Tensor]]:
    """Test images ``[3, h, w]``, each with the training image nearest to it, of a thousand at most.

    Args:
        data: the task.
        places: of the test images.
        device: where they go.
    """
    every = -(-len(data.train_images) // CANDIDATES)
    items = data.train_images.items[::every]
    drawn = data.train_images.drawn
    candidates = TaskImages(data.benchmark, items, drawn=drawn, frame=data.preprocessing)
    for first in range(0, len(places), TOGETHER):
        some = places[first : first + TOGETHER]
        images = torch.stack([data.test_images[place]["image"] for place in some]).to(device)
        batches = image_batches(candidates, device, data.eval_batch_size, data.workers)
        yield from zip(images, nearest_images(images, batches), strict=True)
