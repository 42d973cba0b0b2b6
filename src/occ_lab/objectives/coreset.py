"""Small sets of feature vectors that represent large ones."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from occ_lab.utils.errors import InputError
from occ_lab.utils.processes import all_gathered, distributed
from occ_lab.utils.progress import track

SLOW = 1000  # vectors; larger selections show a progress bar


class Reservoir:
    """A uniform sample, without replacement, of vectors that arrive batch by batch.

    Every vector gets a random key, and the vectors with the smallest keys are kept. The samples of
    several processes can therefore be merged into a sample of everything that they have seen.

    Args:
        size: the number of vectors to keep; all of them if there are fewer.
        seed: the seed of the keys, which depend on the order of the vectors but not on the batches.

    Example:
        >>> reservoir = Reservoir(size=3, seed=0)
        >>> reservoir.add(torch.arange(8.0)[:, None])
        >>> reservoir.taken().shape
        torch.Size([3, 1])
    """

    def __init__(self, size: int, seed: int) -> None:
        self.size = size
        self.seed = seed
        self.vectors: Tensor | None = None

    def add(self, vectors: Tensor) -> None:
        """Add vectors ``[N, C]`` to the population; the sample stays on their device."""
        if self.vectors is None:
            rank = [torch.distributed.get_rank()] if distributed() else []
            self.random = np.random.default_rng([self.seed, *rank])
            self.keys = np.full(self.size, np.inf)
            self.vectors = vectors.new_empty(self.size, vectors.shape[1])
        keys = self.random.random(len(vectors))
        merged = np.concatenate([self.keys, keys])
        stays = np.zeros(len(merged), dtype=bool)
        stays[np.argpartition(merged, self.size - 1)[: self.size]] = True
        free, new = np.flatnonzero(~stays[: self.size]), np.flatnonzero(stays[self.size :])
        self.keys[free] = keys[new]
        self.vectors[torch.from_numpy(free)] = vectors[torch.from_numpy(new)]

    def taken(self) -> Tensor:
        """Return the sample over all processes, in random order, and empty the reservoir.

        Returns:
            ``[M, C]``, where M is the size of the reservoir or, if smaller, the number of vectors.

        Raises:
            InputError: no vectors were added.
        """
        if self.vectors is None:
            raise InputError("the training set has no images", part="dataset")
        vectors, keys = self.vectors, torch.from_numpy(self.keys)
        self.vectors = None
        if distributed():
            vectors, keys = all_gathered(vectors), all_gathered(keys.to(vectors.device))
        smallest = keys.argsort()[: self.size]
        return vectors[smallest[keys[smallest].isfinite()].to(vectors.device)]


def projected(vectors: Tensor, channels: int, seed: int) -> Tensor:
    """Project vectors onto random directions, which approximately preserves distances.

    (Johnson & Lindenstrauss 1984, with Gaussian directions.)

    Args:
        vectors: ``[N, C]``.
        channels: the number of directions; vectors with no more channels are returned unchanged.
        seed: the seed of the directions.

    Returns:
        ``[N, min(C, channels)]``.

    Example:
        >>> projected(torch.randn(5, 300), channels=128, seed=0).shape
        torch.Size([5, 128])
    """
    if vectors.shape[1] <= channels:
        return vectors
    directions = np.random.default_rng(seed).standard_normal((vectors.shape[1], channels))
    return vectors @ torch.from_numpy(directions / channels**0.5).to(vectors)


def farthest_first(vectors: Tensor, count: int) -> Tensor:
    """Choose vectors so that every vector is near a chosen one: greedy k-centre.

    After the first vector, the vector farthest from all chosen ones is chosen each time. The
    largest distance to a chosen vector is at most twice the smallest possible (Gonzalez 1985).

    Args:
        vectors: ``[N, C]``.
        count: the number of vectors to choose, from 1 to N.

    Returns:
        Distinct indices ``[count]``, in the order of choice.

    Example:
        >>> farthest_first(torch.tensor([[0.0], [1.0], [9.0], [5.0]]), count=3)
        tensor([0, 2, 3])
    """
    # Vectors relative to the mean are shorter, so rounding affects their distances less.
    x = vectors - vectors.mean(dim=0)
    squares = x.square().sum(dim=1)
    nearest = torch.full_like(squares, torch.inf)
    chosen = torch.zeros(count, dtype=torch.long, device=x.device)
    for index in track(range(1, count), "coreset", disable=count < SLOW):
        last = chosen[index - 1]
        squared = torch.addmv(squares + squares[last], x, x[last], alpha=-2).clamp_min_(0)
        torch.minimum(nearest, squared, out=nearest)
        nearest[last] = -1  # never chosen again, even if only copies of it are left
        chosen[index] = nearest.argmax()
    return chosen
