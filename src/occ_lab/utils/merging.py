"""Lists of tensors that grow with every batch and stay short.

One small tensor for every batch would fragment the memory: each one lies where the large tensors of
the next batch no longer fit. A test of 10,000 images of 32 px took 830 MB in place of 262 that way.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def joined_last(sizes: list[int], size: int, most: float = math.inf) -> int:
    """Choose how many of the last pieces a new one is joined with: those that are no larger.

    There are then about as many pieces as the number of batches has binary digits, and each piece
    is joined about as often.

    Args:
        sizes: of the pieces; it is changed in place to those after the join.
        size: of the new piece.
        most: the size that a joined piece may have.

    Example:
        >>> sizes = []
        >>> [joined_last(sizes, 1) for _ in range(6)], sizes
        ([0, 1, 0, 2, 0, 1], [4, 2])
    """
    count = 0
    while sizes and sizes[-1] <= size and sizes[-1] + size <= most:
        size += sizes.pop()
        count += 1
    sizes.append(size)
    return count


def join_last(parts: list[Tensor], count: int, part: Tensor) -> None:
    """Append a tensor ``[N, ...]``, joined with the last ``count`` ones."""
    start = len(parts) - count
    last = parts[start:]
    parts[start:] = [torch.cat([*last, part]) if last else part]


def append(parts: list[Tensor], part: Tensor) -> None:
    """Append a tensor ``[N, ...]``, joined with the last ones that are no longer.

    Example:
        >>> parts = []
        >>> for number in range(7):
        ...     append(parts, torch.tensor([number]))
        >>> parts
        [tensor([0, 1, 2, 3]), tensor([4, 5]), tensor([6])]
    """
    join_last(parts, joined_last([len(each) for each in parts], len(part)), part)
