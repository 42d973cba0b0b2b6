"""The nearest of many images."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor


def nearest_images(images: Tensor, candidates: Iterable[Tensor]) -> Tensor:
    """For each of a few images the one of many whose pixels differ least, by sum of squares.

    Args:
        images: ``[N, 3, h, w]``.
        candidates: batches ``[B, 3, h, w]``, of which one is held at a time.

    Returns:
        ``[N, 3, h, w]``.
    """
    nearest, least = torch.empty_like(images), images.new_full((len(images),), float("inf"))
    for batch in candidates:
        distances, places = torch.cdist(images.flatten(1), batch.flatten(1)).min(dim=1)
        closer = distances < least
        nearest[closer] = batch[places[closer]]
        least = torch.minimum(least, distances)
    return nearest
