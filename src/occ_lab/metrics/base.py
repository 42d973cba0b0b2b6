"""The common parts of image and pixel metrics.

All metrics depend only on the order of the scores; nothing is squashed or scaled, and only pixels
of large test sets are rounded. If one of the two classes is missing, every metric is NaN. A NaN
score cannot be ranked, so ``update`` raises `InputError` for it.
"""

from __future__ import annotations

from abc import ABC

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric

from occ_lab.utils.errors import InputError


class OrderMetric(Metric, ABC):
    """A metric whose states are lists that grow by one tensor per batch.

    Args:
        states: the names of the states.
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False

    def __init__(self, *states: str) -> None:
        super().__init__()
        for state in states:
            self.add_state(state, default=[], dist_reduce_fx="cat")


def arrays(state: list[Tensor] | Tensor) -> list[np.ndarray]:
    """The arrays of a list state, which torchmetrics concatenates when it gathers processes."""
    chunks = [state] if isinstance(state, Tensor) else state
    return [chunk.cpu().numpy() for chunk in chunks]


def checked(scores: Tensor, truth: Tensor, name: str) -> Tensor:
    """The scores in float32 or wider, because NumPy has no bfloat16.

    Args:
        scores: scores of any shape.
        truth: the labels or masks to compare them with.
        name: the name of ``truth`` in a message.

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
            "the anomaly scores contain NaN, which cannot be ranked; training has probably "
            "diverged: try a lower learning rate or full precision"
        )
    return scores.detach().to(torch.promote_types(scores.dtype, torch.float32))
