"""Checkpoints of a training in progress: written completely, and used only if complete."""

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
    """Writes a checkpoint to a temporary file first, so that the earlier one stays until the end.

    Lightning's own class collects the file in memory, copies it, writes it to the system's folder
    for temporary files and moves it; if that is on another disk, the move is a copy.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None
    ) -> None:
        """Write the checkpoint and rename it to its final name."""
        with whole_file(Path(path)) as scratch:
            torch.save(checkpoint, scratch)


def write_whole_files(trainer: Trainer) -> None:
    """Use `WholeFiles`, unless the trainer has its own way to write checkpoints."""
    if type(trainer.strategy.checkpoint_io) is TorchCheckpointIO:
        trainer.strategy.checkpoint_io = WholeFiles()


class Saving(ModelCheckpoint):
    """Keeps the state of a training in one file, written at intervals of some epochs.

    Args:
        state: the file.
        epochs: the number of epochs between two writes, at least 1.
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
        """Use `WholeFiles`."""
        super().setup(trainer, pl_module, stage)
        write_whole_files(trainer)


def resumed_from(state: Path | None) -> Path | None:
    """The saved state, if it exists and is complete; a damaged one is logged and removed."""
    if state is None or not state.exists():
        return None
    if is_whole(state):
        return state
    log.warning("%s is incomplete or damaged; the training starts again", state)
    state.unlink()
    return None
