"""Samplers and batches of the data loaders."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch.utils.data import DistributedSampler, Sampler, default_collate

from occ_lab.utils.processes import of_first_process


class EveryNth(DistributedSampler[int]):
    """The indices of one process; each index belongs to exactly one process.

    (`torch.utils.data.DistributedSampler` itself repeats indices so that all processes get the same
    number. Lightning replaces any sampler that is not a subclass of it.)

    Args:
        count: the number of indices that the processes share.
        rank: the rank of this process, from 0; it is also its first index.
        processes: the number of processes.

    Example:
        >>> list(EveryNth(5, rank=1, processes=2))
        [1, 3]
    """

    def __init__(self, count: int, rank: int = 0, processes: int = 1) -> None:
        super().__init__(range(count), processes, rank, shuffle=False)  # type: ignore[arg-type]
        self.indices = range(rank, count, processes)

    def __iter__(self) -> Iterator[int]:
        return iter(self.indices)

    def __len__(self) -> int:
        return len(self.indices)


class Shuffled(DistributedSampler[int]):
    """Shuffled indices for one of several processes, so that a step has the images of one process.

    The order is that of `torch.utils.data.RandomSampler` on rank 0, drawn from torch's global
    generator. With n processes, each takes every n-th index, so that their batches in a step
    together are the batch of a single process. Some indices are repeated at the end if the number
    of indices is not divisible by the number of processes.

    Args:
        count: the number of indices that the processes share.
        rank: the rank of this process, from 0.
        processes: the number of processes.

    Example:
        >>> def order(sampler: Sampler[int]) -> list[int]:
        ...     _ = torch.manual_seed(0)
        ...     return list(sampler)
        >>> order(torch.utils.data.RandomSampler(range(4)))
        [2, 3, 0, 1]
        >>> order(Shuffled(4, rank=0, processes=2)), order(Shuffled(4, rank=1, processes=2))
        ([2, 0], [3, 1])
    """

    def __init__(self, count: int, rank: int, processes: int) -> None:
        super().__init__(range(count), processes, rank)  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[int]:
        seed = int(torch.empty((), dtype=torch.int64).random_())
        generator = torch.Generator().manual_seed(of_first_process(seed))
        order = torch.randperm(len(self.dataset), generator=generator)  # type: ignore[arg-type]
        padded = order.repeat(1 + self.total_size // len(order))[: self.total_size]
        return iter(padded[self.rank :: self.num_replicas].tolist())


class ImageByImage(Sampler[int]):
    """Shuffled indices of the tiles of images, one image after another.

    Without cached features a file is read for its tiles, so this order reads each file once.

    Args:
        edges: the index of the first tile of each image, and the end of the last one, from 0.

    Example:
        >>> sorted(ImageByImage([0, 3, 5]))
        [0, 1, 2, 3, 4]
    """

    def __init__(self, edges: Sequence[int]) -> None:
        self.edges = list(edges)

    def __iter__(self) -> Iterator[int]:
        for image in torch.randperm(len(self.edges) - 1).tolist():
            first, behind = self.edges[image], self.edges[image + 1]
            yield from (first + torch.randperm(behind - first)).tolist()

    def __len__(self) -> int:
        return self.edges[-1]


def collate(samples: list[dict[str, Any]] | dict[str, Any]) -> dict[str, Any]:
    """A batch of samples; a dataset that reads whole batches already returns one.

    In a batch of one image, the object ``tiles`` stays as it is; ``regions`` are a list for each
    image.
    """
    if isinstance(samples, dict):
        return samples
    tiles = [sample.pop("tiles") for sample in samples if "tiles" in sample]
    regions = [sample.pop("regions") for sample in samples if "regions" in sample]
    batch: dict[str, Any] = default_collate(samples)
    if regions:
        batch["regions"] = regions
    return {**batch, "tiles": tiles[0]} if tiles else batch
