"""What the processes of a distributed run tell each other."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import Tensor

T = TypeVar("T")


def distributed() -> bool:
    """Whether this is one of several processes."""
    return torch.distributed.is_available() and torch.distributed.is_initialized()


def all_reduced(value: Tensor) -> Tensor:
    """The sum of a tensor over the processes of a distributed run, in one process the tensor."""
    if distributed():
        torch.distributed.all_reduce(value)
    return value


def all_gathered(value: Tensor) -> Tensor:
    """``[P·N, ...]`` of the tensors ``[N, ...]`` of P processes."""
    parts = [torch.empty_like(value) for _ in range(torch.distributed.get_world_size())]
    torch.distributed.all_gather(parts, value)
    return torch.cat(parts)


def gathered_objects(parts: list[T]) -> list[T]:
    """The elements of the lists of all processes, of the first process first."""
    if not distributed():
        return parts
    gathered: list[list[T]] = [[]] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(gathered, parts)
    return [part for process in gathered for part in process]
