"""Few feature vectors that stand for many."""

from __future__ import annotations

import numpy as np
import torch
from rich.progress import track
from torch import Tensor

from occ_lab.utils.errors import InputError
from occ_lab.utils.processes import all_gathered, distributed


class Reservoir:
    """A uniform sample without replacement of vectors that come batch by batch.

    Every vector gets a random key, and those with the smallest keys stay. The samples of several
    processes so merge to a sample of all they have seen.

    Args:
        size: how many vectors stay; all of them if there are fewer.
        seed: of the keys, which depend on the order of the vectors but not on their batches.
    """

    def __init__(self, size: int, seed: int) -> None:
        self.size = size
        self.seed = seed
        self.vectors: Tensor | None = None

    def add(self, vectors: Tensor) -> None:
        """Draw from vectors ``[N, C]`` too; those that stay are kept on their device."""
        if self.vectors is None:
            place = [torch.distributed.get_rank()] if distributed() else []
            self.random = np.random.default_rng([self.seed, *place])
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
        """The sample ``[M, C]`` over all processes, in random order; the reservoir is empty then.

        M is its size, or how many vectors there were.

        Raises:
            InputError: there were none.
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
    """Vectors ``[N, C]`` in ``channels`` random directions, distances kept approximately.

    (Johnson & Lindenstrauss 1984, with Gaussian directions.) Those of no more channels stay.
    """
    if vectors.shape[1] <= channels:
        return vectors
    directions = np.random.default_rng(seed).standard_normal((vectors.shape[1], channels))
    return vectors @ torch.from_numpy(directions / channels**0.5).to(vectors)


def farthest_first(vectors: Tensor, count: int) -> Tensor:
    """Choose vectors so that none is far from all chosen ones: greedy k-centre.

    The first is chosen, then each time the one farthest from its nearest chosen one, which leaves
    at most twice the least possible distance (Gonzalez 1985).

    Args:
        vectors: ``[N, C]``.
        count: how many to choose, from 1 to N.

    Returns:
        Distinct indices ``[count]``, in the order of choice.
    """
    # Seen from the mean all vectors are shorter, and rounding does less to their distances.
    x = vectors - vectors.mean(dim=0)
    squares = x.square().sum(dim=1)
    nearest = torch.full_like(squares, torch.inf)
    chosen = torch.zeros(count, dtype=torch.long, device=x.device)
    for place in track(range(1, count), "coreset", transient=True):
        last = chosen[place - 1]
        squared = torch.addmv(squares + squares[last], x, x[last], alpha=-2).clamp_min_(0)
        torch.minimum(nearest, squared, out=nearest)
        nearest[last] = -1  # never again, though copies of it may be all that is left
        chosen[place] = nearest.argmax()
    return chosen
