"""The specification of a run: plain objects, independent of how they were created."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Protocol

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
from occ_lab.metrics.evaluation import Evaluation
from occ_lab.metrics.limits import AUPRO_LIMIT
from occ_lab.objectives.base import Objective
from occ_lab.objectives.norm.objective import Norm
from occ_lab.postprocessing.postprocess import PostProcess
from occ_lab.projectors import MakeProjector
from occ_lab.reporting.predictions import Predictions
from occ_lab.utils.errors import InputError, check_number
from occ_lab.utils.memo import Memo
from occ_lab.utils.optimizers import MakeOptimizer, MakeScheduler
from occ_lab.utils.progress import shows_progress
from occ_lab.utils.quiet import quiet_lightning

TRAINED = 10  # default epochs of a trained backbone

MakeTrainer = Callable[[Sequence[Logger], Sequence[Callback], int], Trainer]


def has_moments(objective: Objective) -> bool:
    """Whether an objective is solved from moments, to which images can be added."""
    return isinstance(objective, Norm) and objective.one_pass


def plain_trainer(
    loggers: Sequence[Logger], callbacks: Sequence[Callback], max_epochs: int
) -> Trainer:
    """Lightning's Trainer on a single device of the available kind.

    Checkpointing is enabled if one of the callbacks writes checkpoints.
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
        module: makes the module that trains the backbone.
        epochs: the number of epochs.
    """

    module: Callable[[Backbone], LightningModule]
    epochs: int


@dataclass(frozen=True)
class Explanations:
    """Which scores are explained, and how.

    Attributes:
        method: the attribution method.
        count: the number of test images of a task to explain, the worst misses first.
    """

    method: Attribution
    count: int


class Watcher(Protocol):
    """Observes a run: loggers, callbacks, experiment trackers."""

    def loggers(self, task: str, folder: Path) -> list[Logger]:
        """The loggers of a task that write to ``folder``."""

    def callbacks(self, task: str, folder: Path) -> list[Callback]:
        """The callbacks for the fit of a task."""

    def task_ended(self, found: Predictions) -> None:
        """Called after the test of a task."""

    def run_ended(self, tasks: dict[str, dict[str, Any]]) -> None:
        """Called after the test of all tasks, with their metrics by name."""


class NoWatcher:
    """Logs nothing; only Lightning's own progress bar is shown."""

    def loggers(self, task: str, folder: Path) -> list[Logger]:
        """No loggers."""
        return []

    def callbacks(self, task: str, folder: Path) -> list[Callback]:
        """No callbacks."""
        return []

    def task_ended(self, found: Predictions) -> None:
        """Do nothing."""

    def run_ended(self, tasks: dict[str, dict[str, Any]]) -> None:
        """Do nothing."""


@dataclass(frozen=True)
class Job:
    """Everything that a run does with each of its tasks.

    Attributes:
        views: the benchmark with the preprocessing of each input of the detector: one, or several
            for an ensemble.
        backbone: a frozen backbone, or the untrained state of a trained one.
        objective: makes an objective.
        projector: makes a projector for the channels of the levels; None uses the one that suits
            the objective.
        optimizer: makes an optimizer of parameters; None uses the one that suits the objective.
        scheduler: makes a learning-rate schedule; None keeps the rate constant.
        postprocess: computes image scores and maps from scores.
        aupro_limit: the false-positive rate up to which pixel AUPRO is computed, in (0, 1].
        pretraining: the pre-training of a trained backbone; None for none.
        max_epochs: the number of epochs of a training by gradient; None measures its length in
            steps.
        steps: the number of optimizer steps of a training by gradient, or ``auto``, which chooses
            it on held-out images, see `occ_lab.engine.steps.ChosenSteps`. If neither
            ``max_epochs`` nor a number of steps is given, the default is ``auto`` for a frozen
            backbone and 10 epochs for a trained one.
        batch_size: the number of images in a training batch.
        eval_batch_size: the number of images in a batch of any pass without gradients.
        workers: the number of processes that read images, see `AnomalyDataModule`.
        validation: the fraction of the training images that is held out to log ``val_loss``.
        trim: the fraction of the training images of a task that is left out because they may be
            anomalous, see `occ_lab.engine.fit.fitted`; in 0..0.9.
        cache: the feature cache; None computes features for every batch.
        trainer: makes a Trainer from loggers, callbacks and a number of epochs.
        calibration: the choice of images for the threshold.
        explanations: which scores are explained; None explains none.
        checkpoint_every: the number of epochs between the states that a stopped training can be
            resumed from; 0 turns it off.
        seed: the seed of initial weights and of the order of batches.
        oracle: whether to evaluate the test set after every epoch, to report the best epoch.
        maps: the number of heatmap pictures of a task, the worst misses first.
        gallery: whether each task gets a page of all its test images; ``auto`` is for a user's own
            images only.
        moments: whether to keep the sums that a closed form is solved from, for streams and
            corrections; ``auto`` is for a user's own images only.
        shared: what jobs of this process have computed and others can use; None shares nothing.
    """

    views: list[Benchmark]
    backbone: Backbone
    objective: Callable[[], Objective]
    projector: MakeProjector | None = None
    optimizer: MakeOptimizer | None = None
    scheduler: MakeScheduler | None = None
    postprocess: PostProcess = field(default_factory=PostProcess)
    aupro_limit: float = AUPRO_LIMIT
    pretraining: Pretraining | None = None
    max_epochs: int | None = None
    steps: int | Literal["auto"] | None = None
    batch_size: int = 16
    eval_batch_size: int = 32
    workers: int = 0
    validation: float = 0.0
    trim: float = 0.0
    cache: FeatureCache | None = None
    trainer: MakeTrainer = plain_trainer
    calibration: CalibrationPlan = field(default_factory=CalibrationPlan)
    explanations: Explanations | None = None
    checkpoint_every: int = 0
    seed: int = 0
    oracle: bool = False
    maps: int = 16
    gallery: bool | Literal["auto"] = "auto"
    moments: bool | Literal["auto"] = "auto"
    shared: Memo | None = None

    @property
    def benchmark(self) -> Benchmark:
        """The benchmark with the preprocessing of the first view."""
        return self.views[0]

    @property
    def shows_gallery(self) -> bool:
        """Whether tasks get a page of their test images."""
        return self.benchmark.own if self.gallery == "auto" else self.gallery

    @property
    def keeps_moments(self) -> bool:
        """Whether the sums that a closed form is solved from are kept."""
        if self.moments == "auto":
            return self.benchmark.own and has_moments(self.objective())
        return self.moments

    @cached_property
    def one_pass(self) -> bool:
        """Whether the objective learns in one pass."""
        return self.objective().one_pass

    @property
    def epochs(self) -> int | None:
        """The number of epochs of a training by gradient; None if it is limited by steps."""
        if self.max_epochs is None and self.steps is None and self.backbone.trained:
            return TRAINED
        return self.max_epochs

    def __post_init__(self) -> None:
        for view in self.views:  # so that frames of whole images fit a transformer's patches
            view.multiple = self.backbone.multiple

    def detector(self, frame: Frame | None) -> Detector:
        """An untrained detector for a frame; random weights come from the global generator."""
        made = Detector(
            copy.deepcopy(self.backbone) if self.backbone.trained else self.backbone,
            self.objective(),
            self.projector,
            self.optimizer,
            self.scheduler,
            self.postprocess,
            frame,
        )
        made.evaluation = Evaluation(self.aupro_limit)
        return made

    def check(self) -> None:
        """Check for errors before any work is done.

        Raises:
            InputError: a number is out of range, the parts do not fit each other, or a benchmark
                has no data.
        """
        for name in ("seed", "maps", "workers", "checkpoint_every"):
            check_number(name, getattr(self, name), at_least=0, integer=True)
        for name in ("batch_size", "eval_batch_size"):
            check_number(name, getattr(self, name), at_least=1, integer=True)
        if self.gallery not in (True, False, "auto"):
            raise InputError(f"gallery must be true, false or auto, got {self.gallery!r}")
        self.check_length()
        check_number("validation", self.validation, at_least=0, at_most=0.99)
        check_number("trim", self.trim, at_least=0, at_most=0.9)
        check_number("aupro_limit", self.aupro_limit, above=0, at_most=1)
        objective = self.objective()
        one_pass = objective.one_pass
        if self.moments not in (True, False, "auto"):
            raise InputError(f"moments must be true, false or auto, got {self.moments!r}")
        if self.moments is True and not has_moments(objective):
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
        """Check the size of the backbone's input.

        Raises:
            InputError: the backbone does not support it.
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
        """Refuse settings that cannot be combined with tiles.

        Raises:
            InputError: there are several views, a trained backbone, or explanations.
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
        """Check the settings for the length of a training by gradient.

        Raises:
            InputError: the steps are out of range or cannot be chosen, or both steps and epochs are
                given.
            ValueError: the epochs are out of range.
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
