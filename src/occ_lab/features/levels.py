"""Concatenation of a backbone's levels into one feature map, and processing in small groups."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from occ_lab.utils.errors import InputError
from occ_lab.utils.precision import float64_device

# Processed at once: five maps of 56 × 56, which fit into a processor's cache.
POSITIONS = 2**14
# On a GPU, where small groups leave it idle: 41 such maps, 0.9 GB for 1792 channels in float32.
POSITIONS_ON_GPU = 2**17


def join(levels: Sequence[Tensor]) -> Tensor:
    """Upsample every level bilinearly to the grid of the first one, and concatenate the channels.

    Args:
        levels: ``[B, C_l, H_l, W_l]``, finest first.

    Returns:
        ``[B, ΣC_l, H, W]``, on the grid of the first level.

    Example:
        >>> join([torch.rand(2, 8, 4, 4), torch.rand(2, 16, 2, 2)]).shape
        torch.Size([2, 24, 4, 4])
    """
    return torch.cat(upsampled(levels), dim=1)


def unit_scale(levels: Sequence[Tensor]) -> Tensor:
    """The factor that scales the concatenated feature of each position to length √C (C channels).

    Args:
        levels: ``[B, C_l, H_l, W_l]``, finest first.

    Returns:
        ``[B, 1, H, W]``; finite even where the feature is zero.

    Example:
        >>> levels = [torch.full((1, 4, 2, 2), 3.0)]
        >>> (unit_scale(levels) * join(levels)).norm(dim=1)
        tensor([[[2., 2.],
                 [2., 2.]]])
    """
    squares = sum(level.square().sum(dim=1, keepdim=True) for level in upsampled(levels))
    assert isinstance(squares, Tensor)
    mean = squares / sum(level.shape[1] for level in levels)
    return mean.clamp_min(torch.finfo(mean.dtype).tiny).rsqrt()


def root_mean_squares(batches: Iterable[Sequence[Tensor]]) -> Tensor:
    """The root mean square of each level over images, channels and positions.

    Args:
        batches: levels ``[B, C_l, H_l, W_l]``, the same number in every batch.

    Returns:
        float64 ``[L]`` on the CPU.

    Raises:
        InputError: there are no images.

    Example:
        >>> root_mean_squares([[torch.ones(2, 3, 4, 4), torch.full((2, 5, 2, 2), -3.0)]])
        tensor([1., 3.], dtype=torch.float64)
    """
    squares, counts = torch.zeros((), dtype=torch.float64), torch.zeros((), dtype=torch.float64)
    for levels in batches:
        here = [level.to(float64_device(level.device)) for level in levels]
        sums = [level.square().sum(dtype=torch.float64) for level in here]
        squares = squares + torch.stack(sums).cpu()
        counts = counts + torch.tensor([level.numel() for level in levels], dtype=torch.float64)
    if not counts.sum():
        raise InputError("the training set has no images", part="dataset")
    return (squares / counts).sqrt()


def upsampled(levels: Sequence[Tensor]) -> list[Tensor]:
    """Upsample every level to the grid of the first one: each ``[B, C_l, H, W]``."""
    size = levels[0].shape[-2:]
    return [
        level if level.shape[-2:] == size else F.interpolate(level, size, mode="bilinear")
        for level in levels
    ]


def pieces(levels: Sequence[Tensor]) -> Iterator[tuple[Tensor, ...]]:
    """Levels ``[B, C_l, H_l, W_l]`` in groups of a few images, in order.

    Small groups are faster on a CPU, and limit the memory on any device.

    Example:
        >>> [level.shape for level, in pieces([torch.rand(7, 8, 56, 56)])]
        [torch.Size([5, 8, 56, 56]), torch.Size([2, 8, 56, 56])]
    """
    most = POSITIONS if levels[0].device.type == "cpu" else POSITIONS_ON_GPU
    step = max(1, most // levels[0].shape[-2:].numel())
    return zip(*(torch.split(level, step) for level in levels), strict=True)
