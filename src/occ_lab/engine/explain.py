"""Explanations of the scores of test images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor

from occ_lab.data.datamodule import AnomalyDataModule
from occ_lab.data.images_dataset import TaskImages
from occ_lab.data.pixel_batches import image_batches
from occ_lab.engine.fitted import Fitted
from occ_lab.engine.job import Explanations
from occ_lab.explain.nearest import nearest_images
from occ_lab.reporting.explanations import explanation
from occ_lab.reporting.pictures import pixels_of, subject, worst_first
from occ_lab.utils.png import save_png
from occ_lab.utils.progress import track

CANDIDATES = 1000  # training images among which the nearest one is searched
TOGETHER = 64  # test images that share one pass over the candidates


def write_explanations(
    folder: Path,
    wanted: Explanations,
    member: Fitted,
    scores: np.ndarray,
    labels: np.ndarray,
) -> None:
    """Explain the scores of the worst misses, one picture for each.

    An image is compared with the training image nearest to it. A grey or blurred image, or the mean
    of all images, would not do, because it is an anomaly itself: for MVTec AD's transistors the
    mean scores 10, blurred images 13, and defects 5 to 7. The explained difference would be the one
    between two anomalies, and hiding a defect with such an image would make another defect. And a
    network that normalises contrast sees no difference at all between a black image and an object
    on black ground.

    Args:
        folder: the folder for the pictures; it is created.
        wanted: the method, and the number of images.
        member: the detector and its task.
        scores: the scores of the test images, float ``[N]``.
        labels: ``[N]``, 1 anomalous.
    """
    folder.mkdir(parents=True, exist_ok=True)
    method = wanted.method
    device = member.trainer.strategy.root_device
    detector = member.detector.to(device).eval()

    def score(image: Tensor) -> Tensor:
        found: Tensor = detector(image.to(detector.dtype)).score.float()
        return found

    indices = worst_first(scores, labels)[: wanted.count].tolist()
    pairs = with_nearest(member.data, indices, device)
    listed = list(enumerate(indices, start=1))
    for (rank, index), (image, nearest) in zip(track(listed, "explanations"), pairs, strict=True):
        values = method(score, image, nearest).float().cpu()
        with torch.no_grad():
            other = float(score(nearest[None]))
        shown = subject(rank, member.data.test_images[index], bool(labels[index]))
        caption = (
            f"{shown.title}   score {scores[index]:.4g}, nearest training image {other:.4g}   "
            f"{method.caption(values)}"
        )
        even = gaussian_filter(values.numpy(), method.grain * len(values))
        picture = explanation(shown, pixels_of(nearest.cpu()), even, caption)
        save_png(picture, folder / shown.file)


def with_nearest(
    data: AnomalyDataModule, indices: Sequence[int], device: torch.device
) -> Iterator[tuple[Tensor, Tensor]]:
    """Test images ``[3, h, w]``, each with its nearest training image among at most a thousand.

    Args:
        data: the task.
        indices: the indices of the test images.
        device: the device for the images.
    """
    every = -(-len(data.train_images) // CANDIDATES)
    items = data.train_images.items[::every]
    drawn = data.train_images.drawn
    candidates = TaskImages(data.benchmark, items, drawn=drawn, frame=data.preprocessing)
    for first in range(0, len(indices), TOGETHER):
        some = indices[first : first + TOGETHER]
        images = torch.stack([data.test_images[index]["image"] for index in some]).to(device)
        batches = image_batches(candidates, device, data.eval_batch_size, data.workers)
        yield from zip(images, nearest_images(images, batches), strict=True)
