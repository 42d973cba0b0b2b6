"""Less to read from Lightning in the terminal, around our own calls only."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

LOGGERS = ("lightning.pytorch", "lightning.fabric")
EXPECTED = (  # warnings of Lightning and torch about what is as it should be here
    ".*does not have many workers.*",
    ".*number of training batches.*",
    ".*Total length of .* across ranks is zero.*",  # no held-out images
    ".*but have no `val_dataloader`.*",
    ".*but have no `validation_step`.*",  # of an autoencoder
    ".*in eval mode at the start of training.*",
    ".*LeafSpec.*",
    ".*Grad strides do not match.*",  # of a 1×1 convolution, whose strides mean nothing
    ".*sync_dist=True.*",  # what is logged of a test is the same in every process
    ".*configure_optimizers` returned `None`.*",
    ".*training_step` returned `None`.*",
    ".*exists and is not empty.*",  # of a training that is resumed
)


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Silence the expected messages of Lightning inside the block, and nothing afterwards.

    Other warnings are shown as ever. Filters and log levels are those of before when the block
    ends, so that a program that calls OCC Lab keeps its own.

    Example:
        >>> with quiet_lightning():
        ...     logging.getLogger("lightning.pytorch").isEnabledFor(logging.INFO)
        False
    """
    loggers = [logging.getLogger(name) for name in LOGGERS]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        for message in EXPECTED:
            warnings.filterwarnings("ignore", message=message)
        for logger in loggers:
            logger.setLevel(logging.WARNING)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
