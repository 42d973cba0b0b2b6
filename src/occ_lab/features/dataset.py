"""Datasets whose samples are cached features, or pixels in memory, instead of image files."""

from __future__ import annotations

import math
import mmap
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from occ_lab.data.images_dataset import TaskImages
from occ_lab.data.loading import collate
from occ_lab.features.joined import JoinedLevel, Level

IN_MEMORY = 2**30  # bytes; the limit for the pixels of one dataset in memory


RESIDENT = 0.5  # the largest fraction of a GPU's free memory for the features of a task
COPIED = 2**26  # bytes that are copied to a device at a time


class TaskFeatures(Dataset[dict[str, Any]]):
    """The samples of a dataset with ``levels`` instead of ``image``, read batch by batch.

    Args:
        levels: the cached levels, finest first, each ``[N, H_l, W_l, C_l]``; or tensors on a
            device, as `on_device` returns them.
        images: the dataset; it still provides labels, paths and masks.
        rows: the row of each image in the levels, int ``[len(images)]``; None if the order is the
            same.
        identity: a name for the levels, which no other levels have; empty if it is unknown.

    Attributes:
        resident: whether the levels are tensors on a device. Other processes cannot read them, and
            their batches need not be copied.
    """

    def __init__(
        self,
        levels: Sequence[Level | Tensor],
        images: TaskImages,
        rows: np.ndarray | None = None,
        identity: str = "",
    ) -> None:
        self.levels = levels
        self.resident = isinstance(levels[0], Tensor)
        self.images = images
        self.identity = identity
        self.rows = np.arange(len(images)) if rows is None else rows

    def __len__(self) -> int:
        return len(self.images)

    def __getitems__(self, indices: Sequence[int]) -> dict[str, Any]:
        """A whole batch; `torch.utils.data.DataLoader` calls this method if it exists.

        Its ``levels`` are a list of tensors ``[B, C_l, H_l, W_l]``, float16 and channels-last, as
        they are stored.
        """
        batch = collate(list(self._facts(indices)))
        rows = self.rows[np.asarray(indices)]
        batch["levels"] = [taken(level, rows).permute(0, 3, 1, 2) for level in self.levels]
        return batch

    def _facts(self, indices: Sequence[int]) -> Iterable[dict[str, Any]]:
        if not self.images.masks:
            return map(self.images.facts, indices)
        with ThreadPoolExecutor() as pool:  # to decode the masks
            return pool.map(self.images.facts, indices)


def taken(level: Level | Tensor, rows: np.ndarray) -> Tensor:
    """A copy of some rows of a level, on the device of the level."""
    if isinstance(level, Tensor):
        return level[torch.from_numpy(rows).to(level.device)]
    copy = torch.from_numpy(level[rows])
    release(level)
    return copy


def release(level: Level) -> None:
    """Let the pages of a memory map go, so that they do not count as memory of the process.

    The system keeps what it has read from the file as long as it has room. Without this call, the
    peak memory of a process would be that of all features which it has read.
    """
    for part in level.parts if isinstance(level, JoinedLevel) else [level]:
        mapped = getattr(part, "_mmap", None)
        if hasattr(mmap, "MADV_DONTNEED") and isinstance(mapped, mmap.mmap):
            mapped.madvise(mmap.MADV_DONTNEED)


def on_device(levels: Sequence[Level], device: torch.device) -> Sequence[Level | Tensor]:
    """Levels on the device, if it is a GPU with room for them.

    A copy in large parts and batches that are chosen on the device take less time than batches that
    the processor gathers from a file, even if each is read once.

    Args:
        levels: the cached levels, each ``[N, H_l, W_l, C_l]``.
        device: the device of the fit.

    Returns:
        Tensors on the device if they take at most half of its free memory; otherwise ``levels``.
    """
    if device.type != "cuda":
        return levels
    free, _ = torch.cuda.mem_get_info(device)
    if sum(level.nbytes for level in levels) > RESIDENT * free:
        return levels
    return [copied(level, device) for level in levels]


def copied(level: Level, device: torch.device) -> Tensor:
    """A level on a device, copied in parts, because it may be a memory map larger than memory.

    Example:
        >>> copied(np.ones((3, 2, 2, 1), np.float16), torch.device("cpu")).shape
        torch.Size([3, 2, 2, 1])
    """
    step = max(1, COPIED // max(1, level[:1].nbytes))
    there = torch.empty(level.shape, dtype=torch.float16, device=device)
    for first in range(0, len(level), step):
        there[first : first + step] = torch.from_numpy(level[first : first + step].copy())
    return there


class TaskPixels(Dataset[dict[str, Any]]):
    """The samples of a dataset with their images in memory, read batch by batch.

    It serves a backbone that is trained on the same small images in every epoch.

    Args:
        images: the dataset; threads read all of its images at once.
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
        """A whole batch; its ``image`` is float32 ``[B, 3, h, w]`` in 0..1."""
        batch = collate([self.images.facts(index) for index in indices])
        chosen = self.pixels[torch.as_tensor(indices)]
        batch["image"] = chosen.permute(0, 3, 1, 2).float() / 255
        return batch


def in_memory(images: TaskImages) -> Dataset[dict[str, Any]]:
    """The dataset with its images in memory, if they do not change and are small enough.

    Args:
        images: the dataset.

    Returns:
        A `TaskPixels`; or ``images`` itself if they are transformed at random, if their pixels
        would take more than a GiB, or if there are none.
    """
    fits = 0 < len(images) * 3 * math.prod(images.frame.size) <= IN_MEMORY
    return TaskPixels(images) if fits and images.drawn == "never" else images
