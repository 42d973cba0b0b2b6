"""What image and pixel metrics have in common.

All of them depend on the order of the scores alone: there is no squashing, scaling or binning. If
one of the two classes is missing there is no order to judge, and every metric is NaN. A score that
is NaN itself has no rank: ``update`` raises `InputError`.
"""

from __future__ import annotations

from abc import ABC

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric

from occ_lab.utils.errors import InputError


class OrderMetric(Metric, ABC):
    """A metric whose states are lists that grow by one tensor a batch.

    Args:
        states: their names.
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False

    def __init__(self, *states: str) -> None:
        super().__init__()
        for state in states:
            self.add_state(state, default=[], dist_reduce_fx="cat")


def arrays(state: list[Tensor] | Tensor) -> list[np.ndarray]:
    """The arrays of a list state, which torchmetrics joins when it gathers several processes."""
    chunks = [state] if isinstance(state, Tensor) else state
    return [chunk.cpu().numpy() for chunk in chunks]


def checked(scores: Tensor, truth: Tensor, name: str) -> Tensor:
    """The scores in float32 or wider: NumPy has no bfloat16, and packed float32 is no larger.

    Args:
        scores: of any shape.
        truth: what they are compared with.
        name: of ``truth`` in a message.

    Raises:
        InputError: a score is NaN.
        ValueError: the shapes differ.
    """
    if scores.shape != truth.shape:
        raise ValueError(
            f"{name} must be {tuple(scores.shape)} like the scores, got {tuple(truth.shape)}"
        )
    if scores.isnan().any():
        raise InputError(
            "the anomaly scores hold NaN, which has no rank; the training has probably diverged: "
            "try a lower learning rate or full precision"
        )
    return scores.detach().to(torch.promote_types(scores.dtype, torch.float32))
