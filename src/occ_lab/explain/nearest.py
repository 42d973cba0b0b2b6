"""Search for the nearest of many images."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor


def nearest_images(images: Tensor, candidates: Iterable[Tensor]) -> Tensor:
    """For each image, the candidate with the smallest sum of squared pixel differences.

    Args:
        images: ``[N, 3, h, w]``.
        candidates: batches ``[B, 3, h, w]``; one batch at a time is held in memory.

    Returns:
        The nearest candidates, ``[N, 3, h, w]``.

    Example:
        >>> images = torch.tensor([0.2, 0.9]).view(2, 1, 1, 1).expand(2, 3, 4, 4)
        >>> candidates = torch.tensor([0.0, 0.3, 1.0]).view(3, 1, 1, 1).expand(3, 3, 4, 4)
        >>> nearest_images(images, [candidates[:2], candidates[2:]])[:, 0, 0, 0]
        tensor([0.3000, 1.0000])
    """
    nearest, least = torch.empty_like(images), images.new_full((len(images),), float("inf"))
    for batch in candidates:
        distances, indices = torch.cdist(images.flatten(1), batch.flatten(1)).min(dim=1)
        closer = distances < least
        nearest[closer] = batch[indices[closer]]
        least = torch.minimum(least, distances)
    return nearest
