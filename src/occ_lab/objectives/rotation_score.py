"""The score of the classifier that has learned to predict rotations."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from occ_lab.objectives.joined import JoinedObjective
from occ_lab.pretraining.augmentations import TURNS
from occ_lab.utils.errors import InputError


class RotationScore(JoinedObjective):
    """How unsure the classifier is of the turns an image was given (Golan & El-Yaniv 2018).

    ``−Σ_k log p(k | image turned k times)``, over the four quarter turns: what two-stage detection
    is compared with in Sohn et al. 2021. It learns nothing.

    Args:
        channels: channels of the feature map, the log-probability of each turn.
        levels: the channels of each level; of no use here.

    Raises:
        InputError: the features are no answers of a rotation classifier.
    """

    def __init__(self, channels: int, levels: Sequence[int]) -> None:
        super().__init__()
        self.channels = channels

    def observe(self, levels: Sequence[Tensor]) -> None:
        """Nothing is to be learned from levels ``[B, 4, H, W]``.

        Raises:
            InputError: they have other channels.
        """
        if self.channels != TURNS:
            raise InputError(
                "loss=rotation_classifier takes the answers of a rotation classifier: "
                "backbone=file:PATH backbone.features=turns, of representation=rotation"
            )

    def score(self, z: Tensor) -> Tensor:
        """Scores ``[B, H, W]``, at least 0, of log-probabilities ``[B, 4, H, W]``."""
        return -z.sum(dim=1)
