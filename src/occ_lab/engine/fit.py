"""One detector for one task: features, pre-training, fit, test."""

from __future__ import annotations

import copy
import logging
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from lightning import Trainer, seed_everything
from lightning.pytorch.callbacks import Callback, RichProgressBar
from lightning.pytorch.loggers import Logger
from omegaconf import DictConfig, OmegaConf
from torch import Tensor
from torch.utils.data import DataLoader

from occ_lab.backbones.base import Frozen
from occ_lab.backbones.lenet import LeNet
from occ_lab.config.composition import build
from occ_lab.data.base import Benchmark
from occ_lab.data.datamodule import TaskData
from occ_lab.detector import Detector
from occ_lab.engine.calibrate import held_out
from occ_lab.features.cache import FeatureCache
from occ_lab.features.dataset import held
from occ_lab.features.extraction import use_features
from occ_lab.metrics.calibration import Calibration
from occ_lab.postprocessing.postprocess import PostProcess

log = logging.getLogger(__name__)

IMAGES = 32  # whose scores are upsampled at once
QUIET = (  # what Lightning warns of that is as it should be here
    ".*does not have many workers.*",
    ".*number of training batches.*",
    ".*but have no `val_dataloader`.*",
    ".*in eval mode at the start of training.*",
    ".*LeafSpec.*",
    ".*Grad strides do not match.*",  # of a 1×1 convolution, where strides mean nothing
    ".*sync_dist=True.*",  # what is logged of a test is the same in every process
    ".*configure_optimizers` returned `None`.*",
    ".*training_step` returned `None`.*",
    ".*exists and is not empty.*",  # a training that goes on
)


@dataclass(frozen=True)
class Parts:
    """What the tasks of a run share.

    Attributes:
        views: the benchmark as each input of the detector shows it: one, or those of an ensemble.
        backbone: frozen; of one that is trained, the untrained state.
        cache: of features.
        postprocess: scores to image scores and maps.
        one_pass: whether the objective learns in one pass.
    """

    views: list[Benchmark]
    backbone: Frozen | LeNet
    cache: FeatureCache
    postprocess: PostProcess
    one_pass: bool

    @property
    def benchmark(self) -> Benchmark:
        """The benchmark, as the first view shows it."""
        return self.views[0]


@dataclass
class Fitted:
    """A detector that is fitted to a task and has been tested.

    Attributes:
        data: the task.
        detector: with what the test kept.
        trainer: which did it.
        seconds: of each stage.
        calibration: the scores of normal images it was not fitted to; None without any.
    """

    data: TaskData
    detector: Detector
    trainer: Trainer
    seconds: dict[str, float]
    calibration: Calibration | None = None

    def training_scores(self) -> Tensor:
        """The scores ``[N, H, W]`` of the training images."""
        return self._scores(self.data.setup_dataloader())

    def scores_aside(self) -> tuple[Tensor, Tensor]:
        """Image scores ``[n]`` of the images set aside, and the peaks ``[n]`` of their maps."""
        scores, peaks = [], []
        for some in self._scores(self.data.calibration_dataloader()).split(IMAGES):
            maps, found = self.detector.maps_and_scores(some)
            scores.append(found)
            peaks.append(found if maps is None else maps.flatten(1).amax(dim=1))
        return torch.cat(scores), torch.cat(peaks)

    def _scores(self, batches: DataLoader) -> Tensor:
        predicted = self.trainer.predict(self.detector, batches)
        assert predicted is not None
        return torch.cat([scores for scores in predicted if isinstance(scores, Tensor)])


def fitted(
    cfg: DictConfig,
    parts: Parts,
    benchmark: Benchmark,
    task: str,
    loggers: list[Logger],
    checkpoint: Path,
) -> Fitted:
    """Fit a detector to the task as ``benchmark`` shows it, save it, calibrate and test it.

    Where it is calibrated by folds, a detector is fitted without each of them first.
    """
    calibrated = cfg.calibration.share or cfg.calibration.folds
    aside = held_out(cfg, len(benchmark.split(task).train)) if calibrated else []
    scored = []
    if cfg.calibration.folds:
        folds = (fit_without(fold, cfg, parts, benchmark, task, []) for fold in aside)
        scored = [fold.scores_aside() for fold in folds]
        aside = []
    member = fit_without(aside[0] if aside else [], cfg, parts, benchmark, task, loggers)
    member.trainer.save_checkpoint(checkpoint, weights_only=True)
    if aside:
        scored = [member.scores_aside()]
    if scored:
        member.calibration = Calibration.of(*map(torch.cat, zip(*scored, strict=True)))
    with timed(member.seconds, "test"):
        member.trainer.test(member.detector, member.data.test_dataloader(), verbose=False)
    return member


def fit_without(
    aside: Sequence[int],
    cfg: DictConfig,
    parts: Parts,
    benchmark: Benchmark,
    task: str,
    loggers: list[Logger],
) -> Fitted:
    """Fit a detector to the task's training images but for those at the places ``aside``."""
    data = TaskData(benchmark, task, cfg.loss.fit.batch_size, **cfg.loader)
    data.prepare_data()
    if aside:
        data.set_aside(aside)
    trainer = make_trainer(cfg, loggers, 1 if parts.one_pass else cfg.trainer.max_epochs)
    data.share(trainer.global_rank, trainer.world_size, equal=not parts.one_pass)
    seconds = {"features": 0.0}
    with timed(seconds, "features"):
        use_fast_samples(data, parts, trainer.strategy.root_device)
    # Not before: a pass for the cache draws random numbers, a hit draws none.
    seed_everything(cfg.seed, workers=True, verbose=False)
    detector = make_detector(cfg, parts, benchmark)
    if detector.backbone.trained:
        with timed(seconds, "pretrain"):
            pretrain(cfg, detector.backbone, data, loggers)
    with timed(seconds, "fit"):
        fit(trainer, detector, data, cfg.oracle)
    return Fitted(data, detector, trainer, seconds)


def use_fast_samples(data: TaskData, parts: Parts, device: torch.device) -> None:
    """Let ``data`` give what is the same every epoch without reading images again."""
    if isinstance(parts.backbone, Frozen):
        if parts.cache.enabled:
            use_features(data, parts.cache, parts.backbone, device)
        return
    if parts.cache.enabled:
        log.info("cache: off, since the backbone is trained")
    data.train_set = held(data.train_images)
    data.test_set = held(data.test_images)


@contextmanager
def timed(seconds: dict[str, float], part: str) -> Iterator[None]:
    """Note how many seconds the block took."""
    started = time.perf_counter()
    yield
    seconds[part] = time.perf_counter() - started


def make_detector(cfg: DictConfig, parts: Parts, benchmark: Benchmark) -> Detector:
    """An untrained detector; its random weights come from the global seed."""
    projector = build(cfg.projector, "projector", channels=parts.backbone.channels)
    scheduler = cfg.loss.fit.scheduler
    return Detector(
        copy.deepcopy(parts.backbone) if parts.backbone.trained else parts.backbone,
        projector,
        build(
            without_fit(cfg.loss),
            "loss",
            channels=projector.out_channels,
            levels=parts.backbone.channels,
        ),
        build(cfg.loss.fit.optimizer, "loss.fit.optimizer"),
        build(scheduler, "loss.fit.scheduler") if scheduler else None,
        parts.postprocess,
        size=(benchmark.crop, benchmark.crop),
    )


def without_fit(loss: DictConfig) -> DictConfig:
    """The arguments of the objective itself: ``loss`` less its name and how it is fitted."""
    return OmegaConf.masked_copy(loss, [str(key) for key in loss if key not in ("name", "fit")])


def make_trainer(
    cfg: DictConfig, loggers: list[Logger], epochs: int, watchers: Sequence[Callback] = ()
) -> Trainer:
    """Lightning's trainer, with less to read in the terminal."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for harmless in QUIET:
        warnings.filterwarnings("ignore", message=harmless)
    return build(
        cfg.trainer,
        "trainer",
        logger=loggers,
        max_epochs=epochs,
        callbacks=[RichProgressBar(), *watchers],
    )


def pretrain(
    cfg: DictConfig, backbone: Frozen | LeNet, data: TaskData, loggers: list[Logger]
) -> None:
    """Bring a backbone that is trained to where the fit begins."""
    assert isinstance(backbone, LeNet)
    backbone.calibrate(batch["image"] for batch in data.setup_dataloader())
    if cfg.pretrain.epochs:
        arguments = OmegaConf.masked_copy(cfg.pretrain, ["_target_", "optimizer", "scheduler"])
        stage = build(arguments, "pretrain", backbone=backbone)
        make_trainer(cfg, loggers, cfg.pretrain.epochs).fit(stage, data.train_dataloader())


def fit(trainer: Trainer, detector: Detector, data: TaskData, oracle: bool) -> None:
    """Fit; with ``oracle``, look at the test set after every epoch as well."""
    watched = data.test_dataloader() if oracle else None
    detector.setup_batches = data.setup_dataloader
    trainer.fit(detector, data.train_dataloader(), watched)
