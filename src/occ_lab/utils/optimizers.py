"""Optimizer and schedule of the learning rate, as Lightning wants them."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

Scheduler = Callable[[Optimizer], LRScheduler]


def optimizing(
    parameters: Iterable[nn.Parameter],
    optimizer: Callable[[Iterable[nn.Parameter]], Optimizer],
    scheduler: Scheduler | None,
) -> OptimizerLRScheduler:
    """An optimizer of the parameters that need a gradient, and its schedule if there is one."""
    made = optimizer(parameter for parameter in parameters if parameter.requires_grad)
    if scheduler is None:
        return made
    return {"optimizer": made, "lr_scheduler": scheduler(made)}
