"""The state of a training that may be stopped: written whole, and used only if it is whole."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch.callbacks import ModelCheckpoint

from occ_lab.utils.files import whole_file
from occ_lab.utils.whole_zip import is_whole

log = logging.getLogger(__name__)


class WholeFiles(TorchCheckpointIO):
    """Writes a checkpoint beside its name first, so that the earlier one stays until then.

    Lightning's own writes it to the folder of temporary files and moves it, which is a copy if that
    is on another disk.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None
    ) -> None:
        """Write it by one rename."""
        with whole_file(Path(path)) as scratch:
            torch.save(checkpoint, scratch)


class Saving(ModelCheckpoint):
    """Keeps the state of a training in one file, written every so many epochs.

    Args:
        state: the file.
        epochs: at least 1.
    """

    def __init__(self, state: Path, epochs: int) -> None:
        super().__init__(
            state.parent,
            state.stem,
            every_n_epochs=epochs,
            save_on_train_epoch_end=True,
            enable_version_counter=False,
        )

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Write whole files, unless the trainer has a way of its own to write them."""
        super().setup(trainer, pl_module, stage)
        if type(trainer.strategy.checkpoint_io) is TorchCheckpointIO:
            trainer.strategy.checkpoint_io = WholeFiles()


def resumed_from(state: Path | None) -> Path | None:
    """The state, if there is one and it is whole; a damaged one is named and removed."""
    if state is None or not state.exists():
        return None
    if is_whole(state):
        return state
    log.warning("%s is cut or damaged; the training starts again", state)
    state.unlink()
    return None
