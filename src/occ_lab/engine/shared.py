"""One pass over the training images for several jobs in one process, such as those of a sweep."""

from __future__ import annotations

import copy
import hashlib
import json
from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback, ProgressBar

from occ_lab.detector import Detector
from occ_lab.features.dataset import TaskFeatures
from occ_lab.utils.memo import Memo


class SharedPass(Callback):
    """Takes the result of a single pass from a memo, or keeps it there for later jobs.

    The objective then gets exactly what its own pass would have given: the key covers the files of
    the images and their order, the backbone, the batches, the device, the precision and the
    settings that the result depends on. Only passes over cached features are shared, because images
    may be rotated or cropped at random.

    Args:
        memo: what earlier jobs of the process have kept.
    """

    def __init__(self, memo: Memo) -> None:
        self.memo = memo
        self.key: str | None = None
        self.found = False
        self.batches = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take the result from the memo, if it is there."""
        assert isinstance(pl_module, Detector)
        self.key = pass_key(trainer, pl_module)
        kept = None if self.key is None else self.memo.get(self.key)
        self.found, self.batches = kept is not None, 0
        if kept is not None:
            for name, value in copy.deepcopy(kept).items():
                setattr(pl_module.objective, name, value)
            pl_module.skips_pass = True

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, *outputs: Any
    ) -> None:
        """Count the batches."""
        self.batches += 1

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep the result of a complete pass, just before the objective uses it."""
        assert isinstance(pl_module, Detector)
        if self.key is None or self.found or self.batches < trainer.num_training_batches:
            return
        objective = pl_module.objective
        objective.prepare()
        result = {name: getattr(objective, name) for name in objective.of_pass}
        self.memo.keep(self.key, copy.deepcopy(result))


def pass_key(trainer: Trainer, detector: Detector) -> str | None:
    """A digest of everything that determines the result of a pass; None if it is not shared."""
    objective = detector.objective
    settings = objective.pass_settings()
    data: Any = trainer.datamodule  # type: ignore[attr-defined]
    samples = data.train_set
    usual = all(
        isinstance(each, ProgressBar) or type(each).__module__.startswith("occ_lab.")
        for each in trainer.callbacks  # type: ignore[attr-defined]
    )
    whole = trainer.num_training_batches == -(-len(samples) // data.batch_size)
    unlimited = trainer.max_steps == -1 and not trainer.overfit_batches  # type: ignore[attr-defined]
    if settings is None or not isinstance(samples, TaskFeatures) or not samples.identity:
        return None
    if not (usual and whole and unlimited and trainer.world_size == 1):
        return None
    order = b"" if objective.in_order else torch.get_rng_state().numpy().tobytes()
    images = samples.rows.tobytes()
    facts = {
        "features": samples.identity,
        "rows and order": hashlib.sha256(images + order).hexdigest(),
        "batch_size": data.batch_size,
        "device": str(detector.device),
        "precision": [str(trainer.precision), str(detector.dtype)],
        "objective": [f"{type(objective).__module__}.{type(objective).__qualname__}", settings],
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
