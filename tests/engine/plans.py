"""Trainings of stage 1 that take no time."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from lightning import Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import Logger
from torch.optim import SGD

from occ_lab.backbones.encoder import Encoder
from occ_lab.engine.representation import RepresentationPlan
from occ_lab.pretraining.augmentations import Augment
from occ_lab.pretraining.contrastive import Contrastive
from occ_lab.pretraining.representation import Representation
from occ_lab.pretraining.rotation import Rotation
from tests.backbones.tiny import TINY


def plan(name: str = "rotation", *, patches: int = 0, **settings: Any) -> RepresentationPlan:
    """Of a network that takes no time; 9 images in batches of 4 are two steps an epoch."""
    settings = {"epochs": 4, "batch_size": 4, "save_every": 1, "trainer": on_cpu, **settings}

    def module() -> Representation:
        arguments: dict[str, Any] = {
            "encoder": Encoder(TINY, 8, [16, 8], classes=4 if name == "rotation" else 0),
            "augment": Augment(8, flip=0 if name == "contrastive_da" else 0.5),
            "optimizer": partial(SGD, lr=0.05, momentum=0.9),
            "patches": patches,
            "seed": settings.get("seed", 0),
        }
        if name == "rotation":
            return Rotation(**arguments)
        family: Any = "rotations" if name == "contrastive_da" else "none"
        return Contrastive(family=family, **arguments)

    return RepresentationPlan(module, name, **settings)


def on_cpu(loggers: Sequence[Logger], callbacks: Sequence[Callback], max_epochs: int) -> Trainer:
    return Trainer(
        accelerator="cpu",
        logger=list(loggers),
        callbacks=list(callbacks),
        max_epochs=max_epochs,
        enable_progress_bar=False,
        enable_model_summary=False,
        deterministic="warn",
    )
