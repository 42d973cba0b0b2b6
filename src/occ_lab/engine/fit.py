"""The detector of a task: left-out images, calibration, fit and test."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import Logger

from occ_lab.data.base import Benchmark
from occ_lab.engine.calibrate import CalibrationPlan
from occ_lab.engine.checkpoints import write_whole_files
from occ_lab.engine.fitted import Fitted
from occ_lab.engine.held_out import HeldOut, calibration_of
from occ_lab.engine.job import Job
from occ_lab.engine.recorder import Recorder
from occ_lab.engine.samples import data_of, devices_of, use_fast_samples
from occ_lab.engine.single_fit import fit_without
from occ_lab.metrics.calibration import Calibration
from occ_lab.utils.timing import timed

log = logging.getLogger(__name__)


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
        save(member, checkpoint)
        return member
    held_out = HeldOut.of(job, benchmark, task)
    parts = held_out.parts  # refuses too few images before any work
    seconds = {"features": 0.0}
    if job.trim:
        log.info("trim: fitting a detector to each half of the training images first")
        held_out.left_out = suspicious(job, benchmark, task, seconds)
    if held_out.folds:
        log.info("calibration: fitting a detector without each of %d folds first", len(parts))
        score_parts(held_out, job, benchmark, task, seconds, "calibration")
    part = parts[0] if parts and not held_out.folds else []
    aside = held_out.without(part)
    member = fit_without(aside, job, benchmark, task, loggers, callbacks, state)
    save(member, checkpoint)
    member.seconds |= seconds | {"features": member.seconds["features"] + seconds["features"]}
    if part:
        held_out.keep(part, aside, *member.calibration_scores())
    member.calibrated = held_out.calibrated() | of_kept(member, held_out)
    member.test(job.shared)
    return member


def suspicious(job: Job, benchmark: Benchmark, task: str, seconds: dict[str, float]) -> list[int]:
    """Indices of the training images that are to be left out, see `fitted`.

    Args:
        job: its ``trim`` is the fraction of the images of each task.
        benchmark: one of its views.
        task: one of its tasks.
        seconds: the duration of each stage, to which this one is added.
    """
    halves = HeldOut.of(job, benchmark, task, CalibrationPlan(folds=2, seed=job.seed))
    score_parts(halves, job, benchmark, task, seconds, "trim")
    return halves.highest(job.trim)


def score_parts(
    held_out: HeldOut,
    job: Job,
    benchmark: Benchmark,
    task: str,
    seconds: dict[str, float],
    stage: str,
) -> None:
    """Score each part of the held-out images by a detector that is fitted without it.

    The durations of the stage and of the features, which the first fit computes for all, are added
    to ``seconds``.
    """
    features = 0.0
    with timed(seconds, stage):
        for part in held_out.parts:
            aside = held_out.without(part)
            member = fit_without(aside, job, benchmark, task)
            held_out.keep(part, aside, *member.calibration_scores())
            features += member.seconds["features"]
    seconds[stage] -= features
    seconds["features"] += features


def save(member: Fitted, checkpoint: Path) -> None:
    """Save a detector to a file that is there whole or not at all; all processes call it."""
    write_whole_files(member.trainer)
    member.trainer.save_checkpoint(checkpoint, weights_only=True)


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
