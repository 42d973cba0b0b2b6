"""Samples that hold features, or pixels in memory, in place of image files."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset, default_collate

from occ_lab.data.images_dataset import TaskImages
from occ_lab.features.cache import Levels

IN_MEMORY = 2**30  # bytes of pixels that the images of a split may take up


class TaskFeatures(Dataset):
    """The samples of a split with ``levels`` in place of ``image``, read by the batch.

    Args:
        levels: the cached levels, each ``[N, H_l, W_l, C_l]``.
        images: the split; it still gives labels, paths and masks.
        rows: where in the levels each image stands, ``[len(images)]``; None is one after another.
    """

    def __init__(self, levels: Levels, images: TaskImages, rows: np.ndarray | None = None) -> None:
        self.levels = levels
        self.images = images
        self.rows = np.arange(len(images)) if rows is None else rows

    def __len__(self) -> int:
        return len(self.images)

    def __getitems__(self, indices: Sequence[int]) -> dict[str, Any]:
        """A whole batch at once, as `torch.utils.data.DataLoader` asks a dataset that offers it.

        Its ``levels`` are a list of tensors ``[B, C_l, H_l, W_l]``, float16 and channels-last as
        they are stored.
        """
        batch = default_collate(list(self._facts(indices)))
        places = self.rows[np.asarray(indices)]
        batch["levels"] = [
            torch.from_numpy(level[places]).permute(0, 3, 1, 2) for level in self.levels
        ]
        return batch

    def _facts(self, indices: Sequence[int]) -> Iterable[dict[str, Any]]:
        if not self.images.masks:
            return map(self.images.facts, indices)
        with ThreadPoolExecutor() as pool:  # to decode the masks
            return pool.map(self.images.facts, indices)


def held(images: TaskImages) -> Dataset:
    """The samples with their images in memory, where these stay the same and are few enough."""
    fits = len(images) * 3 * images.benchmark.crop**2 <= IN_MEMORY
    return TaskPixels(images) if fits and images.drawn == "never" else images


class TaskPixels(Dataset):
    """The samples of a split with their images held in memory, read by the batch.

    For a backbone that is trained on the same small images again and again.

    Args:
        images: the split; every image is read at once, by threads.
    """

    def __init__(self, images: TaskImages) -> None:
        self.images = images
        with ThreadPoolExecutor() as pool:
            self.pixels = torch.from_numpy(
                np.stack(list(pool.map(images.pixels, range(len(images)))))
            )

    def __len__(self) -> int:
        return len(self.images)

    def __getitems__(self, indices: Sequence[int]) -> dict[str, Any]:
        """A whole batch at once; its ``image`` is float32 ``[B, 3, h, w]`` in 0..1."""
        batch = default_collate([self.images.facts(index) for index in indices])
        chosen = self.pixels[torch.as_tensor(indices)]
        batch["image"] = chosen.permute(0, 3, 1, 2).float() / 255
        return batch
