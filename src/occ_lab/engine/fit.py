"""One detector for one task: features, pre-training, fit, calibration, test."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning import LightningModule, Trainer, seed_everything
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import Logger
from torch import Tensor
from torch.utils.data import DataLoader

from occ_lab.backbones.base import FrozenBackbone
from occ_lab.data.base import Benchmark
from occ_lab.data.datamodule import AnomalyDataModule
from occ_lab.detector import Detector
from occ_lab.engine.checkpoints import Saving, resumed_from
from occ_lab.engine.job import Job
from occ_lab.engine.recorder import Oracle, Recorder
from occ_lab.engine.steps import ChosenSteps, StepCount
from occ_lab.features.dataset import in_memory
from occ_lab.features.extraction import use_features
from occ_lab.metrics.calibration import Calibration
from occ_lab.utils.errors import InputError
from occ_lab.utils.quiet import quiet_lightning

log = logging.getLogger(__name__)

ENDLESS = -1  # epochs, of a training that is counted in steps


@dataclass
class Fitted:
    """A detector that is fitted to a task and has been tested.

    Attributes:
        data: the task.
        detector: the module.
        trainer: which fitted and tested it.
        recorder: keeps the scores and metrics of the test.
        seconds: of each stage.
        steps: optimizer steps that the detector was trained for; None without any.
        curve: the learning curve of steps that were chosen, see `ChosenSteps`; else empty.
        calibration: the scores of normal images it was not fitted to; None without any.
        overkill: the false-positive rate to decide at; None without calibration.
        best_epochs: the best epoch of each metric by the test set; None unless asked for.
    """

    data: AnomalyDataModule
    detector: Detector
    trainer: Trainer
    recorder: Recorder
    seconds: dict[str, float]
    steps: int | None = None
    curve: Sequence[dict[str, float]] = ()
    calibration: Calibration | None = None
    overkill: float | None = None
    best_epochs: dict[str, dict[str, float]] | None = None

    def test(self) -> None:
        """Test the detector; the recorder keeps the scores."""
        with timed(self.seconds, "test"), quiet_lightning():
            self.trainer.test(self.detector, datamodule=self.data, verbose=False)

    def training_scores(self) -> Tensor:
        """The patch scores ``[N, H, W]`` of the training images."""
        self._predict(self.data.setup_dataloader())
        return self.recorder.predicted("patch_scores")

    def calibration_scores(self) -> tuple[Tensor, Tensor]:
        """Image scores ``[n]`` of the images set aside, and the peaks ``[n]`` of their maps."""
        self._predict(self.data.calibration_dataloader())
        return self.recorder.predicted("score"), self.recorder.predicted("peak")

    def _predict(self, batches: DataLoader[Any]) -> None:
        """Let the recorder keep the scores of all batches."""
        with quiet_lightning():
            self.trainer.predict(self.detector, batches, return_predictions=False)


def fitted(
    job: Job,
    benchmark: Benchmark,
    task: str,
    loggers: Sequence[Logger],
    callbacks: Sequence[Callback],
    checkpoint: Path,
    state: Path | None = None,
) -> Fitted:
    """Fit a detector to the task as ``benchmark`` shows it, save it, calibrate and test it.

    Where it is calibrated by folds, a detector is fitted without each of them first.

    Args:
        job: what is fitted.
        benchmark: one of the job's views.
        task: one of its tasks.
        loggers: of the fit and the test.
        callbacks: of the fit and the test.
        checkpoint: the file that the detector is saved to.
        state: the file that a training by gradient keeps its state in while it goes on, and is
            resumed from; None keeps none.
    """
    images = len(benchmark.split(task).train)
    # An ensemble of views has no single detector to calibrate.
    plan = job.calibration.settled(images, own=benchmark.own and len(job.views) == 1)
    aside = plan.held_out(images)
    scored, seconds, features = [], dict[str, float](), 0.0
    if plan.folds:
        log.info("calibration: a detector is fitted without each of %d folds first", plan.folds)
        with timed(seconds, "calibration"):
            for fold in aside:
                without = fit_without(fold, job, benchmark, task)
                scored.append(without.calibration_scores())
                features += without.seconds["features"]  # which the first one makes for all
        seconds["calibration"] -= features
        aside = []
    member = fit_without(aside[0] if aside else [], job, benchmark, task, loggers, callbacks, state)
    member.trainer.save_checkpoint(checkpoint, weights_only=True)
    member.seconds.update(seconds)
    member.seconds["features"] += features
    if aside:
        scored = [member.calibration_scores()]
    if scored:
        try:
            member.calibration = Calibration.of(*map(torch.cat, zip(*scored, strict=True)))
        except ValueError as error:  # of images that the detector cannot judge
            raise InputError(f"{task}: {error}", part="calibration") from error
        member.overkill = plan.overkill
    member.test()
    return member


def fit_without(
    aside: Sequence[int],
    job: Job,
    benchmark: Benchmark,
    task: str,
    loggers: Sequence[Logger] = (),
    callbacks: Sequence[Callback] = (),
    state: Path | None = None,
) -> Fitted:
    """Fit a detector to the task's training images but for those at the indices ``aside``."""
    recorder, oracle = Recorder(), Oracle()
    one_pass = job.objective().one_pass
    count = None if one_pass else step_count(job)
    kept_state = state if job.checkpoint_every and not one_pass else None
    same = SameRandomState()
    every = [
        recorder,
        same,
        *([count] if count else []),
        *([oracle] if job.oracle else []),
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
        trainer.limit_val_batches = 0  # nobody asks for val_loss after every epoch
    data = AnomalyDataModule(
        benchmark, task, job.batch_size, job.eval_batch_size, job.workers, validation
    )
    data.prepare_data()
    if aside:
        data.set_aside(aside)
    seconds = {"features": 0.0}
    with timed(seconds, "features"):
        use_fast_samples(data, job, trainer.strategy.root_device)
    # Not before: a pass for the cache draws random numbers, a hit draws none.
    seed_everything(job.seed, workers=True, verbose=False)
    detector = job.detector(data.preprocessing)
    resumed = resumed_from(kept_state)
    if detector.backbone.trained and not resumed:
        with timed(seconds, "pretrain"):
            pretrain(job, detector, data, loggers)
    same.state = torch.get_rng_state()
    with timed(seconds, "fit"), quiet_lightning():
        trainer.fit(detector, datamodule=data, ckpt_path=resumed, weights_only=True)
    fit = Fitted(data, detector, trainer, recorder, seconds)
    fit.steps = None if one_pass else trainer.global_step
    if isinstance(count, ChosenSteps) and count.chosen:
        fit.steps, fit.curve = count.chosen, count.curve
    fit.best_epochs = oracle.best_epochs() if job.oracle else None
    return fit


class SameRandomState(Callback):
    """Lets a fit on several processes go on with the random state of one on a single process.

    Lightning seeds again when it connects processes, after the initial weights were drawn.

    Attributes:
        state: of torch's global generator, before the fit.
    """

    state: Tensor

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Go on with the state."""
        if stage == "fit":
            torch.set_rng_state(self.state)


def step_count(job: Job) -> StepCount | None:
    """What ends a training that is counted in steps; None where it is counted in epochs."""
    if job.epochs is not None:
        return None
    return ChosenSteps() if job.steps is None or job.steps == "auto" else StepCount(job.steps)


def use_fast_samples(data: AnomalyDataModule, job: Job, device: torch.device) -> None:
    """Let ``data`` give what is the same every epoch without reading images again."""
    if isinstance(job.backbone, FrozenBackbone):
        if job.cache is not None:
            use_features(data, job.cache, job.backbone, device)
        return
    if job.cache is not None:
        log.info("cache: off, since the backbone is trained")
    data.train_set = in_memory(data.train_images)
    data.validation_set = in_memory(data.validation_images)
    data.test_set = in_memory(data.test_images)


@contextmanager
def timed(seconds: dict[str, float], part: str) -> Iterator[None]:
    """Note how many seconds the block took."""
    started = time.perf_counter()
    yield
    seconds[part] = time.perf_counter() - started


def pretrain(
    job: Job, detector: Detector, data: AnomalyDataModule, loggers: Sequence[Logger]
) -> None:
    """Bring a backbone that is trained to where the fit begins."""
    detector.prepare_backbone(data.setup_dataloader)
    if job.pretraining:
        stage = job.pretraining.module(detector.backbone)
        trainer = job.trainer(loggers, [], job.pretraining.epochs)
        with quiet_lightning():
            trainer.fit(stage, datamodule=data)
