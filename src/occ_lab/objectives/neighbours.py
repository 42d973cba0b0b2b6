"""Distances of feature vectors to their nearest neighbours in a bank."""

from __future__ import annotations

from itertools import count as count_from
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

GROUP = 64  # values whose minimum is taken first, see `smallest`
CPU_BLOCK = 2**20  # distances at a time: those of float32 stay in the cache of a core
GPU_BLOCK = 2**26  # these fill a GPU
EXPORTED = 1024  # features at a time in an exported graph, which has a node for each part


def rows(z: Tensor) -> Tensor:
    """The positions ``[B·H·W, C]`` of maps ``[B, C, H, W]``; no copy if they are channels-last."""
    return z.permute(0, 2, 3, 1).flatten(0, 2)


def lengths(squared: Tensor) -> Tensor:
    """Square roots, with a tiny shift that keeps their gradient finite at 0."""
    return squared.clamp_min(torch.finfo(squared.dtype).tiny).sqrt()


def rows_at_a_time(chunk: int | None, centres: Tensor) -> int:
    """How many features are compared with all centres at a time.

    Args:
        chunk: the number that was asked for; None suits the device and the number of centres.
        centres: ``[M, C]``.

    Example:
        >>> rows_at_a_time(None, torch.empty(2**12, 3)), rows_at_a_time(7, torch.empty(2**12, 3))
        (256, 7)
    """
    if chunk is not None:
        return chunk
    if torch.compiler.is_exporting():
        return EXPORTED
    block = CPU_BLOCK if centres.device.type == "cpu" else GPU_BLOCK
    return max(1, block // max(1, len(centres)))


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
    half: bool = False,
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
        half: whether the nearest centres are selected in bfloat16, see `NearestDistances`.
        places: the rows and columns of the features ``[N, 2]`` and of the centres ``[M, 2]``;
            centres whose row or column is more than ``window`` away are then only selected for
            features that have fewer than ``count`` others. None selects any.
        window: at least 0.

    Returns:
        ``[N, count]``, of the dtype of ``features``.

    Example:
        >>> bank = torch.tensor([[0.0, 0.0], [3.0, 0.0], [9.0, 0.0]])
        >>> nearest_distances(torch.tensor([[1.0, 0.0]]), bank, count=2)
        tensor([[1., 4.]])
    """
    size = rows_at_a_time(chunk, bank)
    here, there = places or (None, None)
    distances: Tensor = NearestDistances.apply(
        features, bank, count, size, half, here, there, window
    )
    return distances


def beyond(here: Tensor, there: Tensor, window: int) -> Tensor:
    """Whether places ``[N, 2]`` and ``[M, 2]`` are more than ``window`` apart, bool ``[N, M]``.

    Example:
        >>> beyond(torch.tensor([[0, 0]]), torch.tensor([[1, 1], [0, 2]]), window=1)
        tensor([[False,  True]])
    """
    rows = (here[:, None, 0] - there[:, 0]).abs() > window
    return rows | ((here[:, None, 1] - there[:, 1]).abs() > window)


def smallest(values: Tensor, count: int) -> Tensor:
    """The indices of the smallest values of each row, which is faster than one ``topk`` over all.

    The smallest ``count`` values lie in the ``count`` groups with the smallest minima.

    Args:
        values: ``[N, M]``, M a multiple of `GROUP`.
        count: from 1 to M.

    Returns:
        ``[N, count]``, int64, the smallest value first.

    Example:
        >>> smallest(torch.arange(128.0).flip(0)[None], 2)
        tensor([[127, 126]])
    """
    groups = values.reshape(len(values), -1, GROUP)
    if groups.shape[1] <= 2 * count:
        return values.topk(count, dim=1, largest=False).indices
    chosen = groups.amin(dim=2).topk(count, dim=1, largest=False).indices
    found = groups.gather(1, chosen[..., None].expand(-1, -1, GROUP)).flatten(1)
    within = found.topk(count, dim=1, largest=False).indices
    return chosen.gather(1, within // GROUP) * GROUP + within % GROUP


class NearestDistances(torch.autograd.Function):
    """Squared distances ``[N, count]`` of features to their nearest centres, nearest first.

    ``NearestDistances.apply(features, bank, count, chunk, half, here, there, window)`` takes
    features ``[N, C]`` and centres ``[M, C]``, which get no gradient; the others are those of
    `nearest_distances`. The neighbours are selected without gradient,
    ``chunk`` features at a time. The gradient flows only through the distances to the selected
    neighbours and equals that of the full matrix. No tensor of N × M or N × count × C elements is
    ever held in memory.

    With ``half``, twice the requested number of neighbours is selected in bfloat16, and these are
    ranked in full precision.
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
        """Select the neighbours, then compute the distances to them."""
        dtype = torch.bfloat16 if half else bank.dtype
        candidates = min(2 * count, len(bank)) if half else count
        # Vectors relative to the mean are shorter, so rounding affects distances less.
        origin = bank.mean(dim=0)
        centres = bank - origin
        # Centres that nothing is near fill the last group of `smallest`.
        missing = -len(bank) % GROUP
        lengths = F.pad(centres.square().sum(dim=1), (0, missing), value=torch.inf).to(dtype)
        centres = F.pad(centres, (0, 0, 0, missing)).to(dtype)
        distances, selected = [], []
        for start, part in zip(count_from(0, chunk), torch.split(features, chunk), strict=False):
            # ‖c‖² − 2 f·c orders the centres c as ‖f − c‖² does. The distances themselves are
            # computed from differences: near a centre the expanded form is mostly rounding error.
            order = torch.addmm(lengths, (part - origin).to(dtype), centres.T, alpha=-2)
            if here is not None and there is not None:
                # By more than their range, so that those beyond come last and keep their order.
                inside = order[:, : len(bank)]
                further = inside.amax() - inside.amin() + 1
                inside += further * beyond(here[start : start + chunk], there, window)
            near = smallest(order, candidates)
            d = (part[:, None] - bank[near]).square_().sum(dim=2)
            d, ranked = d.topk(count, dim=1, largest=False)
            distances.append(d)
            selected.append(near.gather(1, ranked))
        ctx.save_for_backward(features, bank, torch.cat(selected))
        return torch.cat(distances)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """The gradient with respect to the features."""
        features, bank, selected = ctx.saved_tensors
        # Σ g · 2 (f − c) over the selected centres c of f.
        weighted = F.embedding_bag(selected, bank, per_sample_weights=grad, mode="sum")
        total = grad.sum(dim=1, keepdim=True)
        return weighted.mul_(-2).addcmul_(total, features, value=2), *[None] * 7
