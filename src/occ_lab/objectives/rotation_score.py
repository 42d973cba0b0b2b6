"""The score of a classifier that has learned to predict rotations."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from occ_lab.objectives.joined import JoinedObjective
from occ_lab.utils.errors import InputError

TURNS = 4  # quarter turns of an image


class RotationScore(JoinedObjective):
    """The uncertainty of a rotation classifier about the rotations applied to an image.

    (Golan & El-Yaniv 2018, arXiv 1805.10917.) The score is
    ``−Σ_k log p(k | image turned k times)`` over the four quarter turns. Sohn et al. 2021 compare
    two-stage detection with it. It learns nothing.

    Example:
        >>> import torch
        >>> certain = torch.zeros(1, 4, 1, 1)  # log-probability 0 of every turn
        >>> float(RotationScore()(certain)) == 0
        True
    """

    def build(self, channels: int) -> None:
        """Check that the feature map holds the log-probability of each turn.

        Raises:
            InputError: the number of channels is not four.
        """
        if channels != TURNS:
            raise InputError(
                f"features: RotationScore needs the {TURNS} log-probabilities of a rotation "
                f"classifier, got {channels} channels; use an encoder that has learned to "
                'predict rotations, with features "turns"',
                part="backbone",
            )

    def observe(self, levels: Sequence[Tensor]) -> None:
        """Check levels ``[B, 4, H, W]``; nothing is learned.

        Raises:
            InputError: the number of channels is not four.
        """
        self.build(sum(level.shape[1] for level in levels))

    def forward(self, z: Tensor) -> Tensor:
        """Scores ``[B, H, W]``, at least 0, of log-probabilities ``[B, 4, H, W]``."""
        return -z.sum(dim=1)
