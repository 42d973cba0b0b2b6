"""Artificial outliers that are made from normal features only."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


def cut_and_paste(
    levels: Sequence[Tensor],
    random: np.random.Generator,
    part: Sequence[float] = (0.0, 0.0, 1.0, 1.0),
) -> list[Tensor]:
    """Combine levels from different images and positions at every position.

    Each level is normal by itself: it is a whole level of another image, shifted cyclically by a
    random offset. Together, the levels of a position contradict each other, as they do at a defect.
    A single level is cut into two random halves of its channels.

    Args:
        levels: ``[B, C_l, H_l, W_l]``, finest first. Each level of an outlier comes from a
            different image if there are at least as many images as levels (two, for a single
            level).
        random: the generator of images, offsets and halves.
        part: the part of the maps that features are taken from, if images do not fill their frame:
            top, left, bottom and right, each in 0..1.

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
        return [moved(level, order, by, random, part) for by, level in enumerate(levels)]
    pasted = levels[0].clone()
    halves = np.array_split(random.permutation(pasted.shape[1]), 2)
    for by, half in enumerate(map(torch.from_numpy, halves)):
        pasted[:, half] = moved(levels[0][:, half], order, by, random, part)
    return [pasted]


def moved(
    level: Tensor,
    order: np.ndarray,
    by: int,
    random: np.random.Generator,
    part: Sequence[float],
) -> Tensor:
    """For each image, the shifted level of the image that is ``by`` places further in ``order``.

    Args:
        level: ``[B, C, H, W]``.
        order: a permutation of the images ``[B]``.
        by: the number of images to advance, at least 0.
        random: the generator of the offsets.
        part: the part of the maps that features are taken from, see `cut_and_paste`.
    """
    images = np.empty_like(order)
    images[order] = np.roll(order, -by)
    rows, columns = (
        shifted(side, start, stop, len(order), random)
        for side, start, stop in zip(level.shape[-2:], part[:2], part[2:], strict=True)
    )
    at = np.broadcast_arrays(images[:, None, None], rows[:, :, None], columns[:, None, :])
    image, row, column = (torch.from_numpy(index.copy()).to(level.device) for index in at)
    return level[image, :, row, column].permute(0, 3, 1, 2)


def shifted(
    side: int, start: float, stop: float, images: int, random: np.random.Generator
) -> np.ndarray:
    """The source index of each position of an axis after random shifts: int64 ``[images, side]``.

    Args:
        side: the number of positions along the axis.
        start: the start of the part that features are taken from, in 0..1.
        stop: its end, in 0..1.
        images: the number of images; each has its own offset.
        random: the generator of the offsets.
    """
    first = min(round(start * side), side - 1)
    count = max(1, round(stop * side) - first)
    offsets = random.integers(count, size=(images, 1))
    return first + (np.arange(side) + offsets) % count
