"""The base class of objectives that compare a feature with a sample of training features."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from occ_lab.features.levels import join, pieces
from occ_lab.objectives.coreset import Reservoir
from occ_lab.objectives.joined import JoinedObjective
from occ_lab.objectives.neighbours import rows


class SampledObjective(JoinedObjective):
    """An objective that learns from a uniform sample of all positions of the training images.

    Args:
        size: the number of positions to keep; all of them if there are fewer.
        seed: the seed of the random sample.
    """

    def __init__(self, size: int, seed: int) -> None:
        super().__init__()
        self.sample = Reservoir(size, seed)

    @torch.no_grad()
    def observe(self, levels: Sequence[Tensor]) -> None:
        """Sample from the positions of a batch of levels ``[B, C_l, H_l, W_l]``."""
        for piece in pieces(levels):
            self.sample.add(rows(join(piece)))
