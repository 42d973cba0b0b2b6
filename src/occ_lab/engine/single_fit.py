"""A single fit to a part of a task's training images: features, pre-training, fit."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import torch
from lightning import LightningModule, Trainer, seed_everything
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import Logger
from torch import Tensor

from occ_lab.data.base import Benchmark
from occ_lab.data.datamodule import AnomalyDataModule
from occ_lab.detector import Detector
from occ_lab.engine.checkpoints import Saving, resumed_from
from occ_lab.engine.fitted import Fitted
from occ_lab.engine.job import Job
from occ_lab.engine.recorder import Oracle, Recorder
from occ_lab.engine.samples import data_of, devices_of, use_fast_samples
from occ_lab.engine.shared import SharedPass
from occ_lab.engine.steps import ChosenSteps, StepCount
from occ_lab.utils.quiet import quiet_lightning
from occ_lab.utils.timing import timed

log = logging.getLogger(__name__)

ENDLESS = -1  # the number of epochs of a training that is limited by steps


def fit_without(
    aside: Sequence[int],
    job: Job,
    benchmark: Benchmark,
    task: str,
    loggers: Sequence[Logger] = (),
    callbacks: Sequence[Callback] = (),
    state: Path | None = None,
) -> Fitted:
    """Fit a detector to the task's training images except those at the indices ``aside``."""
    recorder, oracle = Recorder(), Oracle()
    one_pass = job.one_pass
    count = None if one_pass else step_count(job)
    kept_state = state if job.checkpoint_every and not one_pass else None
    same = SameRandomState()
    every = [
        recorder,
        same,
        *([count] if count else []),
        *([oracle] if job.oracle else []),
        *([SharedPass(job.shared, bool(job.keeps_moments))] if job.shared and one_pass else []),
        *callbacks,
        *([Saving(kept_state, job.checkpoint_every)] if kept_state else []),
    ]
    if one_pass and (job.steps is not None or (job.max_epochs or 1) > 1):
        log.info("loss.fit: the objective learns in one pass; epochs and steps have no effect")
    trainer = job.trainer(loggers, every, 1 if one_pass else job.epochs or ENDLESS)
    validation = job.validation
    if count and not validation:
        images = len(benchmark.split(task).train) - len(aside)
        validation = count.held_out(images, trainer.world_size)
        trainer.limit_val_batches = 0  # val_loss is not needed after every epoch
    data = data_of(job, benchmark, task, validation, aside)
    seconds = {"features": 0.0}
    with timed(seconds, "features"):
        use_fast_samples(data, job, *devices_of(trainer))
    # Only here, because filling the cache draws random numbers and reading it does not.
    seed_everything(job.seed, workers=True, verbose=False)
    detector = job.detector(data.preprocessing)
    resumed = resumed_from(kept_state)
    if detector.backbone.trained and not resumed:
        with timed(seconds, "pretrain"):
            pretrain(job, detector, data, loggers)
    same.state = torch.get_rng_state()
    with timed(seconds, "fit"), quiet_lightning():
        trainer.fit(detector, datamodule=data, ckpt_path=resumed, weights_only=True)
    fit = Fitted(data, detector, trainer, recorder, seconds, aside=aside)
    fit.steps = None if one_pass else trainer.global_step
    if isinstance(count, ChosenSteps) and count.chosen:
        fit.steps, fit.curve = count.chosen, count.curve
    fit.best_epochs = oracle.best_epochs() if job.oracle else None
    return fit


def step_count(job: Job) -> StepCount | None:
    """The callback that limits a training by steps; None if it is limited by epochs."""
    if job.epochs is not None:
        return None
    return ChosenSteps() if job.steps is None or job.steps == "auto" else StepCount(job.steps)


class SameRandomState(Callback):
    """Makes a fit on several processes continue with the random state of a single process.

    Lightning seeds again when it connects processes, after the initial weights were drawn.

    Attributes:
        state: the state of torch's global generator before the fit.
    """

    state: Tensor

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Restore the random state."""
        if stage == "fit":
            torch.set_rng_state(self.state)


def pretrain(
    job: Job, detector: Detector, data: AnomalyDataModule, loggers: Sequence[Logger]
) -> None:
    """Prepare a trained backbone for the fit."""
    detector.prepare_backbone(data.setup_dataloader)
    if job.pretraining:
        stage = job.pretraining.module(detector.backbone)
        trainer = job.trainer(loggers, [], job.pretraining.epochs)
        with quiet_lightning():
            trainer.fit(stage, datamodule=data)
