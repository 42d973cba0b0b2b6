"""Distances of feature vectors to their nearest neighbours in a bank."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from occ_lab.objectives.selection import (
    Order,
    half_pays,
    nearest_by_bounds,
    nearest_in_full,
    rows_at_a_time,
)


def rows(z: Tensor) -> Tensor:
    """The positions ``[B·H·W, C]`` of maps ``[B, C, H, W]``; no copy if they are channels-last."""
    return z.permute(0, 2, 3, 1).flatten(0, 2)


def lengths(squared: Tensor) -> Tensor:
    """Square roots, with a tiny shift that keeps their gradient finite at 0."""
    return squared.clamp_min(torch.finfo(squared.dtype).tiny).sqrt()


def grid(height: int, width: int, images: int, device: torch.device | None = None) -> Tensor:
    """The row and column of each of the `rows` of maps, int32 ``[B·H·W, 2]``.

    Example:
        >>> grid(2, 2, images=1).tolist()
        [[0, 0], [0, 1], [1, 0], [1, 1]]
    """
    axes = [torch.arange(side, dtype=torch.int32, device=device) for side in (height, width)]
    return torch.cartesian_prod(*axes).repeat(images, 1)


def nearest_distances(
    features: Tensor,
    bank: Tensor,
    count: int,
    chunk: int | None = None,
    half: bool | None = None,
    places: tuple[Tensor, Tensor] | None = None,
    window: int = 0,
) -> Tensor:
    """Squared distances of features to their nearest centres, nearest first.

    Args:
        features: ``[N, C]``; the only argument that gets a gradient.
        bank: the centres ``[M, C]``.
        count: the number of nearest centres, from 1 to M.
        chunk: the number of features whose distances to all centres are held in memory at a time;
            None suits the device.
        half: whether the nearest centres are found by products in bfloat16, which finds the same
            ones, see `Bounds`; None does it where it is faster, see `half_pays`.
        places: the rows and columns of the features ``[N, 2]`` and of the centres ``[M, 2]``;
            centres whose row or column is more than ``window`` away are then only selected for
            features that have fewer than ``count`` others. Such a selection is never in bfloat16.
            None selects any.
        window: at least 0.

    Returns:
        ``[N, count]``, of the dtype of ``features``.

    Example:
        >>> bank = torch.tensor([[0.0, 0.0], [3.0, 0.0], [9.0, 0.0]])
        >>> nearest_distances(torch.tensor([[1.0, 0.0]]), bank, count=2)
        tensor([[1., 4.]])
    """
    if torch.compiler.is_exporting() or places is not None:
        half = False  # few runtimes multiply bfloat16
    elif half is None:
        half = half_pays(bank)
    here, there = places or (None, None)
    distances: Tensor = NearestDistances.apply(
        features, bank, count, rows_at_a_time(chunk, bank, half), half, here, there, window
    )
    return distances


class NearestDistances(torch.autograd.Function):
    """Squared distances ``[N, count]`` of features to their nearest centres, nearest first.

    ``NearestDistances.apply(features, bank, count, chunk, half, here, there, window)`` takes
    features ``[N, C]`` and centres ``[M, C]``, which get no gradient; the others are those of
    `nearest_distances`. The neighbours are selected without gradient,
    ``chunk`` features at a time. The gradient flows only through the distances to the selected
    neighbours and equals that of the full matrix. No tensor of N × M or N × count × C elements is
    ever held in memory.
    """

    @staticmethod
    def forward(
        ctx: Any,
        features: Tensor,
        bank: Tensor,
        count: int,
        chunk: int,
        half: bool,
        here: Tensor | None,
        there: Tensor | None,
        window: int,
    ) -> Tensor:
        """Find the neighbours and the distances to them."""
        order = Order(bank)
        if half:
            distances, selected = nearest_by_bounds(order, features, count, chunk)
        else:
            places = None if here is None or there is None else (here, there)
            distances, selected = nearest_in_full(order, features, count, chunk, places, window)
        ctx.save_for_backward(features, bank, selected)
        return distances

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """The gradient with respect to the features."""
        features, bank, selected = ctx.saved_tensors
        # Σ g · 2 (f − c) over the selected centres c of f.
        weighted = F.embedding_bag(selected, bank, per_sample_weights=grad, mode="sum")
        total = grad.sum(dim=1, keepdim=True)
        return weighted.mul_(-2).addcmul_(total, features, value=2), *[None] * 7
