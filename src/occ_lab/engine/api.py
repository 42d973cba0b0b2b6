"""The whole workflow from Python: features, fit, calibration, test and, if requested, a record."""

from __future__ import annotations

import copy
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

import occ_lab
from occ_lab import backbones
from occ_lab.backbones.base import Backbone
from occ_lab.data.datamodule import AnomalyDataModule
from occ_lab.detector import Detector
from occ_lab.engine.calibrate import CalibrationPlan
from occ_lab.engine.fit import fitted
from occ_lab.engine.fitted import Fitted
from occ_lab.engine.job import Job, MakeTrainer, NoWatcher, plain_trainer
from occ_lab.engine.run import run_task
from occ_lab.features.cache import FeatureCache
from occ_lab.inference.predictor import Predictor
from occ_lab.metrics.limits import AUPRO_LIMIT
from occ_lab.objectives.base import Objective
from occ_lab.objectives.norm.objective import Norm
from occ_lab.postprocessing.postprocess import PostProcess
from occ_lab.projectors import MakeProjector
from occ_lab.reporting.record import RunRecord
from occ_lab.utils.optimizers import MakeOptimizer, MakeScheduler
from occ_lab.utils.specs import spec_or_reason


@dataclass(frozen=True)
class FitResult:
    """The result of `fit`.

    Attributes:
        predictor: scores new images and, with a calibration, judges them.
        metrics: the test metrics, in 0..1, such as ``image_auroc``.
        scores: the scores of the test images, larger is more anomalous, float ``[N]``.
        labels: the labels of the test images, int ``[N]``: 0 normal, 1 anomalous.
        paths: the paths of the test images.
        seconds: the duration of each stage.
        steps: the number of optimizer steps; None if there were none.
        directory: the run directory, or None if nothing was recorded.
    """

    predictor: Predictor
    metrics: dict[str, float]
    scores: np.ndarray
    labels: np.ndarray
    paths: list[str]
    seconds: dict[str, float]
    steps: int | None
    directory: Path | None

    @property
    def detector(self) -> Detector:
        """The fitted detector."""
        return self.predictor.detector


def fit(
    data: AnomalyDataModule,
    objective: Objective | None = None,
    backbone: Backbone | str = "efficientnet_lite0",
    projector: MakeProjector | None = None,
    optimizer: MakeOptimizer | None = None,
    scheduler: MakeScheduler | None = None,
    postprocess: PostProcess | None = None,
    *,
    max_epochs: int | None = None,
    steps: int | Literal["auto"] | None = None,
    calibration: CalibrationPlan | None = None,
    aupro_limit: float = AUPRO_LIMIT,
    cache: FeatureCache | bool = True,
    trainer: MakeTrainer = plain_trainer,
    directory: str | Path | None = None,
    seed: int = 0,
) -> FitResult:
    """Fit a detector to the normal images of a task and test it.

    It does the same as `Detector` with a `lightning.Trainer`, but uses the feature cache and sets
    seeds. For the same arguments, the results equal those of ``occ-lab train``.

    Args:
        data: the task; it also determines batch sizes and workers.
        objective: an untrained objective; by default the norm-space objective in closed form.
        backbone: an object, or the name of a preset, see `occ_lab.backbones.create`.
        projector: makes a projector for the channels of the levels; by default the one that suits
            the objective.
        optimizer: makes an optimizer of parameters; by default that of the objective.
        scheduler: makes a learning-rate schedule; None keeps the rate constant.
        postprocess: computes image scores and maps from scores.
        max_epochs: the number of epochs for an objective that is trained by gradient; None measures
            the length of the training in steps.
        steps: the number of optimizer steps for such an objective, or ``auto``, which chooses it on
            held-out normal images. Without ``max_epochs``, the default is ``auto`` for a frozen
            backbone and 10 epochs for a trained one.
        calibration: the normal images for the threshold; by default five folds for your own images,
            and none for a published benchmark.
        aupro_limit: the false-positive rate up to which pixel AUPRO is computed, in (0, 1].
        cache: the feature cache; True is the folder that the commands use, False computes features
            for every batch.
        trainer: makes a Trainer from loggers, callbacks and a number of epochs.
        directory: a run directory to write, which `occ_lab.load` and the commands can read; None
            writes nothing.
        seed: the seed of initial weights and of the order of batches.

    Raises:
        InputError: data is missing, files are unreadable, or the parts do not fit each other.

    Example:
        >>> import occ_lab
        >>> data = occ_lab.data.Textures(root="data", category="brick")  # doctest: +SKIP
        >>> result = occ_lab.fit(data, occ_lab.objectives.PaDiM())  # doctest: +SKIP
        >>> result.metrics["image_auroc"] > 0.8  # doctest: +SKIP
        True
    """
    if isinstance(backbone, str):
        output = "pooled" if data.kind == "semantic" else "levels"
        made = backbones.create(backbone)
        backbone = made if made.trained else backbones.create(backbone, output=output)
    fresh = objective or Norm()
    job = Job(
        views=[data.benchmark],
        backbone=backbone.for_task(data.task),
        objective=lambda: copy.deepcopy(fresh),
        projector=projector,
        optimizer=optimizer,
        scheduler=scheduler,
        postprocess=postprocess or PostProcess(),
        max_epochs=max_epochs,
        steps=steps,
        batch_size=data.batch_size,
        eval_batch_size=data.eval_batch_size,
        workers=data.workers,
        validation=data.validation,
        aupro_limit=aupro_limit,
        cache=cache_of(cache),
        trainer=trainer,
        calibration=calibration or CalibrationPlan(),
        seed=seed,
    )
    job.check()
    if directory is None:
        with tempfile.TemporaryDirectory() as scratch:
            member = fitted(job, data.benchmark, data.task, [], [], Path(scratch) / "last.ckpt")
        return result_of(member, job, None)
    return recorded(job, data, Path(directory))


def recorded(job: Job, data: AnomalyDataModule, directory: Path) -> FitResult:
    """Fit, test and write a run directory."""
    members: list[Fitted] = []

    def keep(*arguments: Any) -> Fitted:
        members.append(fitted(*arguments))
        return members[-1]

    record = RunRecord(directory, header(job, data), settings(job, data))
    with record.task(data.task) as folder:
        run_task(job, record, data.task, folder, NoWatcher(), keep)
    return result_of(members[0], job, directory)


def header(job: Job, data: AnomalyDataModule) -> dict[str, Any]:
    """The header of ``metrics.json``, above the tasks."""
    return {
        "dataset": data.benchmark.name,
        "loss": type(job.objective()).__name__.lower(),
        "backbone": job.backbone.name,
        "seed": job.seed,
        "train_limit": data.benchmark.train_limit,
        "contamination": data.benchmark.contamination,
        "protocol": data.benchmark.protocol,
        "aupro_limit": job.aupro_limit,
        "version": occ_lab.__version__,
    }


def settings(job: Job, data: AnomalyDataModule) -> dict[str, Any]:
    """The content of ``config.yaml`` for a run that was not started by a command."""
    benchmark = data.benchmark
    return {
        "dataset": {
            "name": benchmark.name,
            "category": data.task,
            "resize": benchmark.resize,
            "crop": benchmark.crop,
            "tile": benchmark.tile,
            "protocol": benchmark.protocol,
        },
        "loss": {"name": type(job.objective()).__name__.lower(), **parts_of(job)["objective"]},
        "backbone": {"name": job.backbone.name, **parts_of(job)["backbone"]},
        "calibration": {"overkill": job.calibration.overkill},
        "seed": job.seed,
        "ensemble": None,
    }


def parts_of(job: Job) -> dict[str, dict[str, Any]]:
    """The objective and the backbone as plain data."""
    parts = {"objective": job.objective(), "backbone": job.backbone}
    return {name: spec_or_reason(part) or {} for name, part in parts.items()}


def result_of(member: Fitted, job: Job, directory: Path | None) -> FitResult:
    """The result for a fitted and tested detector."""
    predictor = Predictor(member.detector, member.data.task, member.calibration, member.overkill)
    recorder = member.recorder
    return FitResult(
        predictor,
        recorder.metrics,
        recorder.tested("score").numpy(),
        recorder.tested("label").numpy(),
        [str(item) for item in member.data.split.test],
        member.seconds,
        member.steps,
        directory,
    )


def cache_of(given: FeatureCache | bool) -> FeatureCache | None:
    """The requested cache, or None."""
    if isinstance(given, FeatureCache):
        return given
    return FeatureCache(os.environ.get("OCC_LAB_CACHE", "~/.cache/occ_lab")) if given else None
