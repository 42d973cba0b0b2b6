"""One detector for one task: features, pre-training, fit, calibration and test."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
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
from occ_lab.engine.calibrate import CalibrationPlan
from occ_lab.engine.checkpoints import Saving, resumed_from, write_whole_files
from occ_lab.engine.held_out import HeldOut, calibration_of
from occ_lab.engine.job import Job
from occ_lab.engine.recorder import Oracle, Recorder
from occ_lab.engine.shared import SharedPass, log_test, outcome_key
from occ_lab.engine.steps import ChosenSteps, StepCount
from occ_lab.features.dataset import in_memory
from occ_lab.features.extraction import use_features
from occ_lab.metrics.calibration import Calibration
from occ_lab.utils.memo import Memo
from occ_lab.utils.quiet import quiet_lightning

log = logging.getLogger(__name__)

ENDLESS = -1  # the number of epochs of a training that is limited by steps


@dataclass
class Fitted:
    """A detector that was fitted to a task and tested.

    Attributes:
        data: the task.
        detector: the module.
        trainer: the trainer that fitted and tested it.
        recorder: keeps the scores and metrics of the test.
        seconds: the duration of each stage.
        steps: the number of optimizer steps; None if there were none.
        curve: the learning curve if the number of steps was chosen, see `ChosenSteps`; otherwise
            empty.
        best_epochs: the best epoch of each metric on the test set; None unless requested.
        outcome_key: of what determines the outcome of the test, if other jobs may share it.
        aside: indices of the training images that it was not fitted to.
        calibrated: by task, its calibration and the false-positive rate; the tasks are several if
            one detector serves them all.
    """

    data: AnomalyDataModule
    detector: Detector
    trainer: Trainer
    recorder: Recorder
    seconds: dict[str, float]
    steps: int | None = None
    curve: Sequence[dict[str, float]] = ()
    best_epochs: dict[str, dict[str, float]] | None = None
    outcome_key: str | None = None
    aside: Sequence[int] = ()
    calibrated: dict[str, tuple[Calibration, float]] = field(default_factory=dict)

    @property
    def calibration(self) -> Calibration | None:
        """The scores of normal images that it was not fitted to; None if there are none."""
        return self.calibrated[self.data.task][0] if self.data.task in self.calibrated else None

    @property
    def overkill(self) -> float | None:
        """The false-positive rate for decisions; None without calibration."""
        return self.calibrated[self.data.task][1] if self.data.task in self.calibrated else None

    def test(self, shared: Memo | None = None) -> None:
        """Test the detector; the recorder keeps the outcome.

        Args:
            shared: holds the outcomes of equal tests; None shares nothing.
        """
        calibration = self.calibration
        self.detector.evaluation.segment(calibration.segmentation if calibration else None)
        with timed(self.seconds, "test"), quiet_lightning():
            if shared is not None:
                self.outcome_key = outcome_key(self.trainer, self.detector)
                kept = shared.get(self.outcome_key) if self.outcome_key else None
                if kept is not None:
                    self.recorder.outcome = kept
                    log_test(self.trainer, kept.metrics)
                    return
            self.trainer.test(self.detector, datamodule=self.data, verbose=False)
            if shared is not None and self.outcome_key:
                shared.keep(self.outcome_key, self.recorder.outcome)

    def training_scores(self) -> Tensor:
        """The patch scores ``[N, H, W]`` of the training images."""
        self._predict(self.data.setup_dataloader())
        return self.recorder.predicted("patch_scores")

    def calibration_scores(self) -> tuple[Tensor, Tensor, Tensor]:
        """Scores ``[n]`` of the images to calibrate on; peaks ``[n]`` and moments of their maps.

        The moments ``[n, 3]`` are those of `pixel_moments`.
        """
        self._predict(self.data.calibration_dataloader())
        found = self.recorder.predicted
        return found("score"), found("peak"), found("moments")

    def _predict(self, batches: DataLoader[Any]) -> None:
        """Score all batches; the recorder keeps the scores."""
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
    earlier: Fitted | None = None,
) -> Fitted:
    """Fit a detector to a task as preprocessed by ``benchmark``; save, calibrate and test it.

    For a calibration by folds, further detectors are fitted first, each without one of the folds;
    and two before them, if some of the training images are to be left out. If one detector serves
    several tasks, it is calibrated on the images of each.

    The images that are left out are those of a task with the highest scores by a detector that was
    fitted to a random half of the images without them. They take part in the calibration.

    Args:
        job: the parts of the detector and the settings of the fit.
        benchmark: one of the job's views.
        task: one of its tasks.
        loggers: loggers for the fit and the test.
        callbacks: callbacks for the fit and the test.
        checkpoint: the file to save the detector to.
        state: the file that stores the state of a training by gradient while it is running, and
            that it is resumed from; None stores no state.
        earlier: the detector of an earlier task that serves this one as well; it is only tested.
    """
    if earlier is not None:
        member = serving(earlier, job, benchmark, task, loggers, callbacks)
        write_whole_files(member.trainer)
        member.trainer.save_checkpoint(checkpoint, weights_only=True)
        return member
    held_out = HeldOut.of(job, benchmark, task)
    seconds, features = dict[str, float](), 0.0
    if job.trim:
        log.info("trim: fitting a detector to each half of the training images first")
        with timed(seconds, "trim"):
            halves = HeldOut.of(job, benchmark, task, CalibrationPlan(folds=2, seed=job.seed))
            for half in halves.parts:
                without = fit_without(half, job, benchmark, task)
                halves.keep(half, half, *without.calibration_scores())
                features += without.seconds["features"]
        seconds["trim"] -= features
        held_out.left_out = halves.highest(job.trim)
    aside = held_out.parts
    if held_out.folds:
        log.info("calibration: fitting a detector without each of %d folds first", len(aside))
        before = features
        with timed(seconds, "calibration"):
            for fold in aside:
                every = held_out.without(fold)
                without = fit_without(every, job, benchmark, task)
                held_out.keep(fold, every, *without.calibration_scores())
                features += without.seconds["features"]  # the first fold computes them for all
        seconds["calibration"] -= features - before
        aside = []
    without_these = held_out.without(aside[0] if aside else [])
    member = fit_without(without_these, job, benchmark, task, loggers, callbacks, state)
    write_whole_files(member.trainer)
    member.trainer.save_checkpoint(checkpoint, weights_only=True)
    member.seconds.update(seconds)
    member.seconds["features"] += features
    if aside:
        held_out.keep(aside[0], without_these, *member.calibration_scores())
    member.calibrated = held_out.calibrated() | of_kept(member, held_out)
    member.test(job.shared)
    return member


def serving(
    earlier: Fitted,
    job: Job,
    benchmark: Benchmark,
    task: str,
    loggers: Sequence[Logger],
    callbacks: Sequence[Callback],
) -> Fitted:
    """Test the detector of an earlier task on another task that it serves."""
    recorder = Recorder()
    trainer = job.trainer(loggers, [recorder, *callbacks], 1)
    data = data_of(job, benchmark, task, earlier.data.validation, earlier.aside)
    seconds = dict.fromkeys(("features", "fit"), 0.0)
    with timed(seconds, "features"):
        use_fast_samples(data, job, *devices_of(trainer))
    member = Fitted(data, earlier.detector, trainer, recorder, seconds, earlier.steps)
    own = of_kept(member, HeldOut.of(job, benchmark, task))
    member.aside, member.calibrated = earlier.aside, earlier.calibrated | own
    member.test(job.shared)
    return member


def of_kept(member: Fitted, held_out: HeldOut) -> dict[str, tuple[Calibration, float]]:
    """The calibration of a task by the images that its benchmark keeps apart, if it is by them."""
    rate = held_out.plans[member.data.task].overkill
    if not held_out.kept or rate is None:
        return {}
    return {
        member.data.task: (calibration_of(member.data.task, *member.calibration_scores()), rate)
    }


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


def data_of(
    job: Job, benchmark: Benchmark, task: str, validation: float, aside: Sequence[int]
) -> AnomalyDataModule:
    """The images of a task, checked, without those at the indices ``aside``."""
    sizes = job.batch_size, job.eval_batch_size, job.workers
    data = AnomalyDataModule(benchmark, task, *sizes, validation)
    data.prepare_data()
    data.test_images.memo = None if job.workers else job.shared  # that of this process
    if aside:
        data.set_aside(aside)
    return data


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


def step_count(job: Job) -> StepCount | None:
    """The callback that limits a training by steps; None if it is limited by epochs."""
    if job.epochs is not None:
        return None
    return ChosenSteps() if job.steps is None or job.steps == "auto" else StepCount(job.steps)


def devices_of(trainer: Trainer) -> list[torch.device]:
    """The device of this process, then the others that its trainer uses on this machine.

    Those wait until the features are in the cache; their processes start later, or wait as well.
    """
    every = getattr(trainer.strategy, "parallel_devices", None) or []
    return list(dict.fromkeys([trainer.strategy.root_device, *every]))


def use_fast_samples(
    data: AnomalyDataModule, job: Job, device: torch.device, *others: torch.device
) -> None:
    """Make ``data`` return unchanging samples from the cache or memory instead of image files."""
    if isinstance(job.backbone, FrozenBackbone):
        if job.cache is not None:
            use_features(data, job.cache, job.backbone, device, others)
        return
    if job.cache is not None:
        log.info("cache: off, because the backbone is trained")
    data.train_set = in_memory(data.train_images)
    data.validation_set = in_memory(data.validation_images)
    data.test_set = in_memory(data.test_images)


@contextmanager
def timed(seconds: dict[str, float], part: str) -> Iterator[None]:
    """Add the duration of the block to ``seconds``."""
    started = time.perf_counter()
    yield
    seconds[part] = time.perf_counter() - started


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
