"""Images that are tested in tiles: a sample is an image, and its tiles are read when needed."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from occ_lab.data.batches import Batch
from occ_lab.data.images_dataset import TaskImages
from occ_lab.data.loading import collate
from occ_lab.data.tiling import Tiles

PIXELS = 32 * 224**2  # pixels of the tiles that pass through a network at once


class TilesOfImage:
    """The tiles of an image, a few at a time.

    It is not a dataclass, because Lightning would take one apart to move it to a device.

    Args:
        samples: a dataset of tiles, or of their cached features, that contains those of the image.
        indices: the indices of the image's tiles in it.
        size: height and width of the image.
        at_once: the number of tiles in a batch.
    """

    def __init__(
        self, samples: Dataset[Any], indices: range, size: tuple[int, int], at_once: int
    ) -> None:
        self.samples = samples
        self.indices = indices
        self.size = size
        self.at_once = at_once

    def batches(self) -> Iterator[dict[str, Any]]:
        """Batches of tiles in order, in the form of training batches."""
        for first in range(0, len(self.indices), self.at_once):
            few = list(self.indices[first : first + self.at_once])
            if hasattr(self.samples, "__getitems__"):
                yield collate(self.samples.__getitems__(few))
            else:
                yield collate([self.samples[index] for index in few])


class TiledImages(Dataset[dict[str, Any]]):
    """Images as samples, with ``tiles`` (`TilesOfImage`) instead of ``image``.

    Args:
        images: the images, whose frame is `Tiles`.
        samples: their tiles in order, as `TaskImages.tiles` returns them, or a replacement.
    """

    def __init__(self, images: TaskImages, samples: Dataset[Any]) -> None:
        assert isinstance(images.frame, Tiles)
        self.images = images
        self.samples = samples
        self.frame = images.frame
        self.edges = tile_edges(images)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> dict[str, Any]:
        size = self.images.benchmark.image_size(self.images.items[index])
        own = range(self.edges[index], self.edges[index + 1])
        tiles = TilesOfImage(self.samples, own, size, tiles_at_once(self.frame))
        return {**self.images.facts(index), "tiles": tiles}


def tile_edges(images: TaskImages) -> list[int]:
    """The index of the first tile of each image, and the number of all tiles at the end."""
    frame, size = images.frame, images.benchmark.image_size
    assert isinstance(frame, Tiles)
    counts = (len(frame.origins(*size(item))) for item in images.items)
    return [0, *itertools.accumulate(counts)]


def tiles_at_once(frame: Tiles) -> int:
    """The number of tiles that pass through a network at once."""
    return max(1, PIXELS // frame.tile**2)


def tile_batches(pixels: np.ndarray, frame: Tiles) -> Iterator[Batch]:
    """The tiles of an image, uint8 ``[h, w, 3]``, a few at a time, as in training batches."""
    size = (pixels.shape[0], pixels.shape[1])
    origins = frame.origins(*size)
    for first in range(0, len(origins), tiles_at_once(frame)):
        few = origins[first : first + tiles_at_once(frame)]
        tiles = torch.from_numpy(np.stack([frame.cut(pixels, origin) for origin in few]))
        image = tiles.permute(0, 3, 1, 2).float() / 255
        boxes = torch.tensor([frame.box_in(origin, size) for origin in few])
        full = bool((boxes == torch.tensor([0, 0, *frame.size])).all())
        yield {"image": image} if full else {"image": image, "box": boxes}


def image_samples(images: TaskImages, samples: Dataset[Any] | None = None) -> Dataset[Any]:
    """The images as samples for the test: in tiles if their frame is `Tiles`, otherwise unchanged.

    Args:
        images: the images.
        samples: a dataset that replaces their tiles; None reads the tiles from the images.
    """
    if isinstance(images.frame, Tiles):
        return TiledImages(images, images.tiles() if samples is None else samples)
    return images if samples is None else samples
