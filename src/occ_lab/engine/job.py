"""What a run is made of: plain objects, whoever makes them."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback, Checkpoint
from lightning.pytorch.loggers import Logger

from occ_lab.backbones.base import Backbone
from occ_lab.data.base import Benchmark
from occ_lab.data.transforms import Frame
from occ_lab.detector import Detector
from occ_lab.engine.calibrate import CalibrationPlan
from occ_lab.explain.attribution import Attribution
from occ_lab.features.cache import FeatureCache
from occ_lab.objectives.base import Objective
from occ_lab.objectives.norm.objective import Norm
from occ_lab.postprocessing.postprocess import PostProcess
from occ_lab.projectors import MakeProjector
from occ_lab.utils.errors import InputError, check_number
from occ_lab.utils.optimizers import MakeOptimizer, MakeScheduler
from occ_lab.utils.progress import shows_progress
from occ_lab.utils.quiet import quiet_lightning

TRAINED = 10  # epochs of a backbone that is trained

MakeTrainer = Callable[[Sequence[Logger], Sequence[Callback], int], Trainer]


def plain_trainer(
    loggers: Sequence[Logger], callbacks: Sequence[Callback], max_epochs: int
) -> Trainer:
    """Lightning's Trainer on whatever device there is, one of it.

    Checkpointing is on where one of the callbacks writes checkpoints.
    """
    with quiet_lightning():
        return Trainer(
            accelerator="auto",
            devices=1,
            logger=list(loggers),
            callbacks=list(callbacks),
            max_epochs=max_epochs,
            enable_checkpointing=any(isinstance(each, Checkpoint) for each in callbacks),
            enable_model_summary=False,
            enable_progress_bar=shows_progress(),
            num_sanity_val_steps=0,
        )


@dataclass(frozen=True)
class Pretraining:
    """A training of the backbone before the fit.

    Attributes:
        module: makes what is trained around the backbone.
        epochs: how many.
    """

    module: Callable[[Backbone], LightningModule]
    epochs: int


@dataclass(frozen=True)
class Explanations:
    """Which scores are explained.

    Attributes:
        method: how.
        count: of how many test images of a task, the worst misses first.
    """

    method: Attribution
    count: int


class Watcher(Protocol):
    """What follows a run from outside: loggers, callbacks, experiment trackers."""

    def loggers(self, task: str, folder: Path) -> list[Logger]:
        """The loggers of a task whose outputs go to ``folder``."""

    def callbacks(self, task: str, folder: Path) -> list[Callback]:
        """The callbacks of a fit of a task."""

    def task_ended(
        self, task: str, scores: np.ndarray, labels: np.ndarray, pictures: list[Path]
    ) -> None:
        """A task has been tested: image scores and labels ``[N]``, and its heatmap pictures."""

    def run_ended(self, tasks: dict[str, dict[str, Any]]) -> None:
        """All tasks have been tested: their metrics by name."""


class NoWatcher:
    """Nothing is logged; a progress bar is Lightning's own."""

    def loggers(self, task: str, folder: Path) -> list[Logger]:
        """No loggers."""
        return []

    def callbacks(self, task: str, folder: Path) -> list[Callback]:
        """No callbacks."""
        return []

    def task_ended(
        self, task: str, scores: np.ndarray, labels: np.ndarray, pictures: list[Path]
    ) -> None:
        """Nothing is sent anywhere."""

    def run_ended(self, tasks: dict[str, dict[str, Any]]) -> None:
        """Nothing is sent anywhere."""


@dataclass(frozen=True)
class Job:
    """All that a run does to each of its tasks.

    Attributes:
        views: the benchmark as each input of the detector shows it: one, or those of an ensemble.
        backbone: frozen; of one that is trained, the untrained state.
        objective: makes an objective.
        projector: makes a projector for the channels of the levels; None leaves it to the
            objective.
        optimizer: makes an optimizer of parameters; None leaves it to the objective.
        scheduler: makes a schedule of the learning rate; None keeps it.
        postprocess: scores to image scores and maps.
        pretraining: of a backbone that is trained; None is none.
        max_epochs: of a training by gradient; None counts it in steps.
        steps: optimizer steps of a training by gradient, or ``auto``, which chooses them by
            held-out images, see `occ_lab.engine.steps.ChosenSteps`. Where neither ``max_epochs``
            nor a number of steps is given, it is ``auto`` over a frozen backbone, and
            a backbone that is trained gets 10 epochs.
        batch_size: images in a training batch.
        eval_batch_size: images in a batch of any pass without gradients.
        workers: who reads images, see `AnomalyDataModule`.
        validation: fraction of the training images that is held out to log ``val_loss``.
        cache: of features; None computes them for every batch.
        trainer: makes a Trainer from loggers, callbacks and a number of epochs.
        calibration: which images a threshold comes from.
        explanations: which scores are explained; None explains none.
        checkpoint_every: epochs between the states that a stopped training is resumed from; 0 is
            off.
        seed: of initial weights and the order of batches.
        oracle: whether the test set is looked at after every epoch, to report the best one.
        maps: how many heatmap pictures a task gets, the worst misses first.
        moments: whether the sums that a closed form is solved from are kept, for streams.
    """

    views: list[Benchmark]
    backbone: Backbone
    objective: Callable[[], Objective]
    projector: MakeProjector | None = None
    optimizer: MakeOptimizer | None = None
    scheduler: MakeScheduler | None = None
    postprocess: PostProcess = field(default_factory=PostProcess)
    pretraining: Pretraining | None = None
    max_epochs: int | None = None
    steps: int | Literal["auto"] | None = None
    batch_size: int = 16
    eval_batch_size: int = 32
    workers: int = 0
    validation: float = 0.0
    cache: FeatureCache | None = None
    trainer: MakeTrainer = plain_trainer
    calibration: CalibrationPlan = field(default_factory=CalibrationPlan)
    explanations: Explanations | None = None
    checkpoint_every: int = 0
    seed: int = 0
    oracle: bool = False
    maps: int = 16
    moments: bool = False

    @property
    def benchmark(self) -> Benchmark:
        """The benchmark, as the first view shows it."""
        return self.views[0]

    @property
    def epochs(self) -> int | None:
        """The epochs of a training by gradient; None where it is counted in steps."""
        if self.max_epochs is None and self.steps is None and self.backbone.trained:
            return TRAINED
        return self.max_epochs

    def __post_init__(self) -> None:
        for view in self.views:  # frames of whole images fit the patches of a transformer
            view.multiple = self.backbone.multiple

    def detector(self, frame: Frame | None) -> Detector:
        """An untrained detector for images in a frame; random weights come from the global seed."""
        return Detector(
            copy.deepcopy(self.backbone) if self.backbone.trained else self.backbone,
            self.objective(),
            self.projector,
            self.optimizer,
            self.scheduler,
            self.postprocess,
            frame,
        )

    def check(self) -> None:
        """Look for what cannot work before any work is done.

        Raises:
            InputError: a number out of range, parts that do not fit each other, or a benchmark
                without data.
        """
        for name in ("seed", "maps", "workers", "checkpoint_every"):
            check_number(name, getattr(self, name), at_least=0, integer=True)
        for name in ("batch_size", "eval_batch_size"):
            check_number(name, getattr(self, name), at_least=1, integer=True)
        self.check_length()
        check_number("validation", self.validation, at_least=0, at_most=0.99)
        objective = self.objective()
        one_pass = objective.one_pass
        if self.moments and not (one_pass and isinstance(objective, Norm)):
            raise InputError(
                "moments: only the norm-space objective in closed form is solved from moments that "
                f"could be kept, not {type(objective).__name__}"
            )
        if self.oracle and one_pass:
            raise InputError("oracle: the objective learns in one pass; it has no best epoch")
        if len(self.views) > 1:
            if self.explanations:
                raise InputError(
                    "explain: the score of an ensemble is of several views of an image, not of "
                    "one; explain a single view"
                )
            if self.calibration.wanted:
                raise InputError(
                    "calibration: an ensemble of views has no single detector to calibrate"
                )
        if self.pretraining and not self.backbone.trained:
            raise InputError(
                f"pretrain: the backbone {self.backbone.name} is frozen; leave pretraining out, "
                "or use a backbone that is trained, such as lenet"
            )
        self.backbone.check_tasks(self.benchmark.tasks())
        for view in self.views:
            self._check_size(view)
        if self.projector is not None:
            self.projector(self.backbone.channels)

    def _check_size(self, view: Benchmark) -> None:
        """Look at the size of the images that the backbone will get.

        Raises:
            InputError: it cannot take them.
        """
        if view.tile is not None:
            self._check_tiles(view)
        if view.crop != "whole" and view.tile is None:
            self.backbone.check_size(view.crop, view.crop)
            return
        if len(self.views) > 1:
            raise InputError("crop: an ensemble of views needs crops in pixels, not whole images")
        for task in view.tasks():
            frame = view.preprocessing(task)
            try:
                self.backbone.check_size(*frame.size)
            except InputError as error:
                how = "sees images in tiles" if view.tile else "keeps images whole, in a frame"
                raise InputError(
                    f"{error}\n{view.name} {how} of {frame.size[0]}x{frame.size[1]} px; a crop in "
                    "pixels and no tiles resizes them to a square",
                    part=error.part,
                ) from error

    def _check_tiles(self, view: Benchmark) -> None:
        """Refuse what images in tiles cannot be combined with.

        Raises:
            InputError: more than one view, a backbone that is trained, or explanations.
        """
        refused = {
            "an ensemble of views": len(self.views) > 1,
            f"the backbone {self.backbone.name}, which is trained": self.backbone.trained,
            "explanations, which are of the images that a network takes": bool(self.explanations),
        }
        for what, there in refused.items():
            if there:
                raise InputError(f"tile: tiles do not go with {what}", part="dataset")

    def check_length(self) -> None:
        """Look at what says how long a training by gradient is.

        Raises:
            InputError: steps out of range, or both steps and epochs, or steps that cannot be
                chosen.
            ValueError: epochs out of range.
        """
        if self.max_epochs is not None:
            check_number("max_epochs", self.max_epochs, at_least=1, integer=True)
        if self.steps is None:
            return
        refused = ""
        if self.max_epochs is not None:
            refused = f"{self.steps} and {self.max_epochs} epochs are both asked for; leave one out"
        elif self.steps == "auto":
            if self.backbone.trained:
                refused = (
                    f"auto needs a frozen backbone, and {self.backbone.name} is trained; give a "
                    "number of steps or epochs"
                )
        elif isinstance(self.steps, bool) or not isinstance(self.steps, int) or self.steps < 1:
            refused = f"must be auto or an integer >= 1, got {self.steps!r}"
        if refused:
            raise InputError(f"steps: {refused}", part="fit")
