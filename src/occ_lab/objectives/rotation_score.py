"""The score of a classifier that has learned to predict rotations."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from occ_lab.objectives.joined import JoinedObjective
from occ_lab.utils.errors import InputError

TURNS = 4  # quarter turns of an image


class RotationScore(JoinedObjective):
    """How unsure a classifier is of the turns that an image was given.

    (Golan & El-Yaniv 2018, arXiv 1805.10917.) The score is
    ``−Σ_k log p(k | image turned k times)`` over the four quarter turns: what two-stage detection
    is compared with in Sohn et al. 2021. It learns nothing.

    Example:
        >>> import torch
        >>> certain = torch.zeros(1, 4, 1, 1)  # log-probability 0 of every turn
        >>> float(RotationScore()(certain)) == 0
        True
    """

    def build(self, channels: int) -> None:
        """Check that the feature map holds the log-probability of each turn.

        Raises:
            InputError: it has other than four channels.
        """
        if channels != TURNS:
            raise InputError(
                f"features: RotationScore takes the {TURNS} log-probabilities that a rotation "
                f"classifier gives, got {channels} channels; use an encoder that has learned to "
                'predict rotations, with features "turns"',
                part="backbone",
            )

    def observe(self, levels: Sequence[Tensor]) -> None:
        """Check levels ``[B, 4, H, W]``; there is nothing to learn.

        Raises:
            InputError: they have other than four channels.
        """
        self.build(sum(level.shape[1] for level in levels))

    def forward(self, z: Tensor) -> Tensor:
        """Scores ``[B, H, W]``, at least 0, of log-probabilities ``[B, 4, H, W]``."""
        return -z.sum(dim=1)
