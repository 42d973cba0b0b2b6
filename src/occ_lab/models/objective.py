"""What every objective offers to the detector."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable

from torch import Tensor, nn


class Objective(nn.Module, ABC):
    """A one-class objective over feature maps ``z`` ``[B, C, H, W]``.

    It scores positions and never asks whether they are patches of an image or the one embedding
    of a whole image (H = W = 1).

    Attributes:
        needs_setup: whether `setup` must see the training set before the first step.
    """

    needs_setup: bool = False

    def setup(self, feature_maps: Iterable[Tensor]) -> None:
        """Learn from one pass over the untrained projector's maps ``[B, C, H, W]``."""

    @abstractmethod
    def loss(self, z: Tensor) -> Tensor:
        """The training loss, a scalar, of normal feature maps ``[B, C, H, W]``."""

    @abstractmethod
    def score(self, z: Tensor) -> Tensor:
        """Anomaly scores ``[B, H, W]``, larger is more anomalous, of maps ``[B, C, H, W]``."""
