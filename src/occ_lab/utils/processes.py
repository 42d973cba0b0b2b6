"""Communication between the processes of a distributed run."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import Tensor

T = TypeVar("T")


def distributed() -> bool:
    """Whether this process is one of several."""
    return torch.distributed.is_available() and torch.distributed.is_initialized()


def all_reduced(value: Tensor) -> Tensor:
    """The sum of a tensor over the processes of a distributed run.

    Args:
        value: has the same shape in all processes, on any device; it may be changed in place.

    Returns:
        The sum, on the device of ``value``; the tensor itself if there is only one process.
    """
    if not distributed():
        return value
    moved = value.to(reducing_device(value.device))
    torch.distributed.all_reduce(moved)
    return moved.to(value.device)


def reducing_device(device: torch.device) -> torch.device:
    """The device on which processes can exchange a tensor of ``device``.

    NCCL exchanges nothing that is on the CPU, and the others of ours need no other device.
    """
    on_gpus = torch.distributed.get_backend() == "nccl"
    return torch.device("cuda", torch.cuda.current_device()) if on_gpus else device


def all_gathered(value: Tensor) -> Tensor:
    """The tensors of all processes of a distributed run, concatenated.

    Args:
        value: ``[N, ...]``, with the same shape in all P processes.

    Returns:
        ``[P·N, ...]``, in the order of the ranks.
    """
    parts = [torch.empty_like(value) for _ in range(torch.distributed.get_world_size())]
    torch.distributed.all_gather(parts, value)
    return torch.cat(parts)


def of_first_process(value: T) -> T:
    """The value on rank 0 of a distributed run; with one process, the value itself."""
    if not distributed():
        return value
    values = [value]
    torch.distributed.broadcast_object_list(values)
    return values[0]


def gathered_objects(parts: list[T]) -> list[T]:
    """The elements of the lists of all processes, in the order of the ranks."""
    if not distributed():
        return parts
    gathered: list[list[T]] = [[]] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(gathered, parts)
    return [part for process in gathered for part in process]
