"""What every objective offers to the detector."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any

import torch
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
        learned: names of the buffers that are empty at first, since only the data tells how large
            they get.
    """

    needs_setup: bool = False
    one_pass: bool = False
    learned: tuple[str, ...] = ()

    def setup(self, feature_maps: Iterable[Tensor]) -> None:
        """Learn from one pass over the untrained projector's maps ``[B, C, H, W]``."""

    def start_epoch(self, epoch: int) -> None:
        """Learn which epoch begins, counted from 0."""

    def loss(self, z: Tensor) -> Tensor:
        """The training loss, a scalar, of normal feature maps ``[B, C, H, W]``."""
        raise TypeError(f"{type(self).__name__} learns in one pass and has no loss")

    def facts(self) -> dict[str, Tensor]:
        """What is worth a curve beside the loss: scalars by name, as of the last batch."""
        return {}

    def observe(self, levels: Sequence[Tensor]) -> None:
        """Learn from a batch of levels ``[B, C_l, H_l, W_l]``, finest first."""
        raise TypeError(f"{type(self).__name__} learns by gradient, from its loss")

    def finish(self, projector: Any) -> None:
        """End the pass; the projector may be set to what follows from it."""

    @abstractmethod
    def score(self, z: Tensor) -> Tensor:
        """Anomaly scores ``[B, H, W]``, larger is more anomalous, of maps ``[B, C, H, W]``."""

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        for name in self.learned:
            buffer = getattr(self, name)
            shape = state_dict.get(f"{prefix}{name}", buffer).shape
            setattr(self, name, buffer.new_empty(shape))
        super()._load_from_state_dict(state_dict, prefix, *rest)


def mean_feature(feature_maps: Iterable[Tensor]) -> Tensor:
    """The mean over images and positions of maps ``[B, C, H, W]``, float64 ``[C]`` on the CPU."""
    total, count = torch.tensor(0.0, dtype=torch.float64), 0
    for z in feature_maps:
        total = total + z.sum(dim=(0, 2, 3)).cpu().double()
        count += z.shape[0] * z.shape[2] * z.shape[3]
    return total / count
