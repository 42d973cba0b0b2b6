"""What every objective offers to the detector."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any

from torch import Tensor, nn


class Objective(nn.Module, ABC):
    """A one-class objective over feature maps ``z`` ``[B, C, H, W]``.

    It scores positions and never asks whether they are patches of an image or the one embedding
    of a whole image (H = W = 1). It learns in one of two ways: by the gradient of `loss`, after a
    look at the training set if `needs_setup`; or, if `one_pass`, from a single pass in which it
    gets to `observe` every batch and at the end to `finish`.

    Attributes:
        needs_setup: whether `setup` must see the training set before the first step.
        one_pass: whether it learns by `observe` and `finish` in place of gradients.
    """

    needs_setup: bool = False
    one_pass: bool = False

    def setup(self, feature_maps: Iterable[Tensor]) -> None:
        """Learn from one pass over the untrained projector's maps ``[B, C, H, W]``."""

    def loss(self, z: Tensor) -> Tensor:
        """The training loss, a scalar, of normal feature maps ``[B, C, H, W]``."""
        raise TypeError(f"{type(self).__name__} learns in one pass and has no loss")

    def observe(self, levels: Sequence[Tensor]) -> None:
        """Learn from a batch of levels ``[B, C_l, H_l, W_l]``, finest first."""
        raise TypeError(f"{type(self).__name__} learns by gradient, from its loss")

    def finish(self, projector: Any) -> None:
        """End the pass; the projector may be set to what follows from it."""

    @abstractmethod
    def score(self, z: Tensor) -> Tensor:
        """Anomaly scores ``[B, H, W]``, larger is more anomalous, of maps ``[B, C, H, W]``."""
