"""Artificial outliers that are made of normal features alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


def cut_and_paste(levels: Sequence[Tensor], random: np.random.Generator) -> list[Tensor]:
    """Levels in which every position combines levels from different images and positions.

    Each level is normal by itself: it is a whole level of another image, shifted by a random
    offset, with what leaves the map at one side entering at the other. Together the levels of a
    position contradict each other, as they do at a defect. A single level is cut into two random
    halves of its channels.

    Args:
        levels: ``[B, C_l, H_l, W_l]``, finest first. Each level of an outlier comes from another
            image if there are at least as many images as levels (two, for a single level).
        random: generator of the images, offsets and halves.

    Returns:
        Levels of the same shapes.

    Example:
        >>> levels = [torch.rand(4, 8, 6, 6), torch.rand(4, 16, 3, 3)]
        >>> pasted = cut_and_paste(levels, np.random.default_rng(0))
        >>> [level.shape for level in pasted]
        [torch.Size([4, 8, 6, 6]), torch.Size([4, 16, 3, 3])]
    """
    order = random.permutation(len(levels[0]))
    if len(levels) > 1:
        return [moved(level, order, by, random) for by, level in enumerate(levels)]
    pasted = levels[0].clone()
    halves = np.array_split(random.permutation(pasted.shape[1]), 2)
    for by, half in enumerate(map(torch.from_numpy, halves)):
        pasted[:, half] = moved(levels[0][:, half], order, by, random)
    return [pasted]


def moved(level: Tensor, order: np.ndarray, by: int, random: np.random.Generator) -> Tensor:
    """Each image's level from the image that is ``by`` further in ``order``, and shifted.

    Args:
        level: ``[B, C, H, W]``.
        order: a permutation of the images ``[B]``.
        by: a number of images, at least 0.
        random: generator of the offsets.
    """
    images = np.empty_like(order)
    images[order] = np.roll(order, -by)
    rows, columns = (
        (np.arange(side) + random.integers(side, size=(len(order), 1))) % side
        for side in level.shape[-2:]
    )
    at = np.broadcast_arrays(images[:, None, None], rows[:, :, None], columns[:, None, :])
    image, row, column = (torch.from_numpy(index.copy()).to(level.device) for index in at)
    return level[image, :, row, column].permute(0, 3, 1, 2)
