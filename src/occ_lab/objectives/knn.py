"""Distance to the nearest training features of a memory bank."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from occ_lab.features.levels import join, pieces
from occ_lab.objectives.coreset import farthest_first, projected
from occ_lab.objectives.neighbours import grid, lengths, nearest_distances, rows
from occ_lab.objectives.sampled import SampledObjective
from occ_lab.projectors import Projector
from occ_lab.utils.errors import InputError, check_number

Coreset = Literal["random", "greedy"]
Metric = Literal["euclidean", "cosine"]
CANDIDATES = 10  # vectors that the greedy selection samples for each vector it keeps
PROJECTED = 128  # channels that the selection uses, as in the official code of PatchCore


class KNN(SampledObjective):
    """Mean distance to the k nearest feature vectors of a bank, as in PatchCore.

    (Roth et al. 2022, arXiv 2106.08265, without the weight of equation 7.) The bank is a uniform
    sample of all positions of the training images, or PatchCore's ``greedy`` coreset. To limit the
    memory, the greedy coreset is selected from a sample ten times as large as the bank rather than
    from all positions. With ``cosine`` and a bank of all positions of a few images, it is the score
    of AnomalyDINO (Damm et al. 2025, arXiv 2405.14529), without its masks.

    Args:
        bank: the number of feature vectors to keep, at least 1; all of them if there are fewer.
        coreset: ``random`` or ``greedy``.
        k: the number of neighbours over which the distance is averaged, at least 1 and at most
            ``bank``.
        metric: ``euclidean``, or ``cosine`` distance, 1 − cos, in 0..2.
        chunk: the number of positions whose distances to the whole bank are held in memory at a
            time, at least 1; None suits the device.
        window: neighbours are vectors of positions whose row and column differ by at most so much,
            at least 0, so that parts in a wrong place are found too. If there are fewer than k of
            them in the bank, the nearest of all others fill in. None, the default, takes
            neighbours from anywhere.
        seed: the seed of the random sample.

    Attributes:
        bank: ``[M, C]``, each vector of length 1 for ``cosine``; empty before `finish`.
        places: with ``window``, the row and column of each vector, int32 ``[M, 2]``.

    Raises:
        ValueError: an argument is out of range; the message begins with its name.

    Example:
        >>> levels = [torch.randn(6, 3, 8, 8), torch.randn(6, 5, 4, 4)]  # of six normal images
        >>> objective = KNN(bank=100)
        >>> projector = objective.default_projector([3, 5])
        >>> objective.observe(levels)
        >>> objective.finish(projector)
        >>> objective.bank.shape, objective(projector(levels)).shape
        (torch.Size([100, 8]), torch.Size([6, 8, 8]))
    """

    bank: Tensor
    places: Tensor
    learned: tuple[str, ...] = ("bank",)

    def __init__(
        self,
        bank: int = 10_000,
        coreset: Coreset = "random",
        k: int = 1,
        metric: Metric = "euclidean",
        chunk: int | None = None,
        window: int | None = None,
        seed: int = 0,
    ) -> None:
        check_number("bank", bank, at_least=1, integer=True)
        for name, value, choices in (("coreset", coreset, Coreset), ("metric", metric, Metric)):
            if value not in get_args(choices):
                raise ValueError(f"{name} must be {' or '.join(get_args(choices))}, got {value!r}")
        check_number("k", k, at_least=1, at_most=bank, integer=True)
        if chunk is not None:
            check_number("chunk", chunk, at_least=1, integer=True)
        if window is not None:
            check_number("window", window, at_least=0, integer=True)
        greedy = coreset == "greedy"
        super().__init__(CANDIDATES * bank if greedy else bank, seed)
        self.size = bank
        self.greedy = greedy
        self.k = k
        self.cosine = metric == "cosine"
        self.chunk = chunk
        self.window = window
        self.located = window is not None
        self.seed = seed
        self.register_buffer("bank", torch.empty(0, 0))
        if window is not None:
            self.learned = ("bank", "places")
            self.register_buffer("places", torch.empty(0, 2, dtype=torch.int32))

    @torch.no_grad()
    def observe(self, levels: Sequence[Tensor], valid: Tensor | None = None) -> None:
        """Sample from the positions of a batch of levels.

        Args:
            levels: ``[B, C_l, H_l, W_l]``, finest first.
            valid: with ``window``, the positions that count, bool ``[B, H, W]``; None counts all.
        """
        if self.window is None:
            super().observe(levels)
            return
        masks = levels[0].new_ones(len(levels[0]), *levels[0].shape[-2:])
        if valid is not None:
            masks *= valid
        for *piece, mask in pieces([*levels, masks]):
            features = rows(join(piece))
            places = grid(mask.shape[1], mask.shape[2], len(mask), features.device).to(features)
            # The sample takes the place along with the feature, as two more channels.
            self.sample.add(torch.cat([features, places], dim=1)[mask.flatten() > 0])

    def finish(self, projector: Projector) -> None:
        """Store the sample, or its coreset, as the bank.

        Raises:
            InputError: fewer than k feature vectors were observed, or the projector is not
                `Identity`.
        """
        super().finish(projector)
        taken = self.sample.taken()
        channels = taken.shape[1] - (0 if self.window is None else 2)
        bank, places = self._vectors(taken[:, :channels]), taken[:, channels:]
        if self.greedy and len(bank) > self.size:
            chosen = farthest_first(projected(bank, PROJECTED, self.seed), self.size)
            bank, places = bank[chosen], places[chosen]
        if len(bank) < self.k:
            raise InputError(
                f"k: the training set has {len(bank)} feature vectors, fewer than k = {self.k}",
                part="objective",
            )
        self.bank = bank
        if self.window is not None:
            self.places = places.round().int()

    def forward(self, z: Tensor) -> Tensor:
        """Scores ``[B, H, W]`` of maps ``[B, C, H, W]``.

        Raises:
            RuntimeError: the objective is not fitted.
        """
        self._check_fitted()
        with torch.autocast(z.device.type, enabled=False):
            places = None
            if self.window is not None:
                places = grid(z.shape[2], z.shape[3], len(z), z.device), self.places
            squared = nearest_distances(
                self._vectors(rows(z)),
                self.bank,
                self.k,
                self.chunk,
                places=places,
                window=self.window or 0,
            )
        # For unit vectors ‖u − v‖² = 2 (1 − cos).
        distances = squared / 2 if self.cosine else lengths(squared)
        return distances.mean(dim=1).reshape(len(z), *z.shape[-2:])

    def _vectors(self, features: Tensor) -> Tensor:
        features = features.to(self.bank.dtype)
        return F.normalize(features) if self.cosine else features
