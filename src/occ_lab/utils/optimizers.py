"""An optimizer and its learning-rate schedule, in the form that Lightning expects."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeAlias

from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

MakeOptimizer: TypeAlias = Callable[[Iterable[nn.Parameter]], Optimizer]
MakeScheduler: TypeAlias = Callable[[Optimizer], LRScheduler]


def optimizing(
    parameters: Iterable[nn.Parameter],
    optimizer: MakeOptimizer,
    scheduler: MakeScheduler | None,
) -> OptimizerLRScheduler:
    """An optimizer of the parameters that require a gradient, with a schedule if one is given.

    Args:
        parameters: the parameters of a module.
        optimizer: makes the optimizer, such as a ``functools.partial`` of its class.
        scheduler: makes the learning-rate schedule, or None.

    Returns:
        What ``LightningModule.configure_optimizers`` returns.

    Example:
        >>> from functools import partial
        >>> from torch.optim import SGD
        >>> made = optimizing(nn.Linear(2, 2).parameters(), partial(SGD, lr=0.1), None)
        >>> type(made).__name__
        'SGD'
    """
    made = optimizer(parameter for parameter in parameters if parameter.requires_grad)
    if scheduler is None:
        return made
    return {"optimizer": made, "lr_scheduler": scheduler(made)}
