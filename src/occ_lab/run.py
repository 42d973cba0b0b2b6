"""One run: for each one-class task of the dataset, fit, test, record."""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning import Trainer, seed_everything
from lightning.pytorch.callbacks import RichProgressBar
from omegaconf import DictConfig, OmegaConf
from rich.console import Console

import occ_lab
from occ_lab.allocator import keep_freed_memory
from occ_lab.config import build, check_value, resolved
from occ_lab.data.base import Benchmark
from occ_lab.data.module import TaskData
from occ_lab.features.backbone import Backbone
from occ_lab.features.cache import FeatureCache
from occ_lab.features.extract import use_features
from occ_lab.files import write_whole
from occ_lab.models.detector import Detector
from occ_lab.results.memory import peak_mb, reset_peak
from occ_lab.results.pictures import save_pictures
from occ_lab.results.record import RunRecord, to_csv, to_json
from occ_lab.results.table import results_table
from occ_lab.results.tracking import log_pictures, task_loggers
from occ_lab.scoring.postprocess import PostProcess

log = logging.getLogger(__name__)


QUIET = (  # what Lightning warns of that is as it should be here
    ".*does not have many workers.*",
    ".*number of training batches.*",
    ".*but have no `val_dataloader`.*",
    ".*in eval mode at the start of training.*",
    ".*LeafSpec.*",
    ".*configure_optimizers` returned `None`.*",
    ".*training_step` returned `None`.*",
)
LEAST = {  # the least that these numbers may be
    "seed": 0,
    "maps": 0,
    "loader.workers": 0,
    "loader.eval_batch_size": 1,
    "loss.fit.epochs": 1,
    "loss.fit.batch_size": 1,
}


@dataclass(frozen=True)
class Parts:
    """What the tasks of a run share."""

    benchmark: Benchmark
    backbone: Backbone
    cache: FeatureCache
    postprocess: PostProcess
    one_pass: bool


def run(cfg: DictConfig, directory: Path) -> dict[str, dict[str, Any]]:
    """Fit and test every task that ``cfg.dataset`` selects; write all into ``directory``.

    Returns:
        The figures of each task, as in ``metrics.json``.

    Raises:
        UserError: a value out of range, absent data, a file that cannot be used; all before any
            work on the task concerned.
    """
    keep_freed_memory()
    cfg = resolved(cfg)
    parts = check(cfg)
    tasks = parts.benchmark.tasks()
    header = {
        "dataset": cfg.dataset.name,
        "loss": cfg.loss.name,
        "backbone": cfg.backbone.name,
        "seed": cfg.seed,
        "version": occ_lab.__version__,
    }
    record = RunRecord(directory, header, cfg)
    console = Console()
    try:
        for place, task in enumerate(tasks, start=1):
            if task in record.finished:
                console.print(f"{task}: finished before, skipped")
                continue
            console.rule(f"{task} ({place} of {len(tasks)})", align="left")
            with record.task(task) as folder:
                run_task(cfg, parts, task, folder)
    except (KeyboardInterrupt, SystemExit):  # Lightning turns Ctrl-C during a fit into an exit
        console.print(f"\nStopped; {len(record.finished)} of {len(tasks)} tasks are finished.")
        again = f"Go on: the same command with resume=true hydra.run.dir={directory}"
        console.print(again, soft_wrap=True)
        raise SystemExit(130) from None
    figures = {task: record.finished[task] for task in tasks}
    title = (
        f"{cfg.loss.name} on {cfg.dataset.name}, {cfg.backbone.name}, seed {cfg.seed} (per cent)"
    )
    console.print(results_table(title, figures))
    console.print(f"run directory: {directory}", soft_wrap=True)
    if cfg.maps:
        console.print(f"heatmaps:      {directory}/tasks/*/maps/*.png", soft_wrap=True)
    return figures


def check(cfg: DictConfig) -> Parts:
    """Build what all tasks share, and let every value be checked before any work."""
    for key, least in LEAST.items():
        check_value(cfg, key, at_least=least, integer=True)
    benchmark = build(cfg.dataset, "dataset")
    objective = build(without_fit(cfg.loss), "loss", channels=1, levels=[1])
    postprocess = build(cfg.scoring, "scoring")
    backbone = build(cfg.backbone, "backbone")
    build(cfg.projector, "projector", channels=backbone.channels)
    cache = build(cfg.cache, "cache")
    return Parts(benchmark, backbone, cache, postprocess, objective.one_pass)


def without_fit(loss: DictConfig) -> DictConfig:
    """The arguments of the objective itself: ``loss`` less its name and how it is fitted."""
    return OmegaConf.masked_copy(loss, [str(key) for key in loss if key not in ("name", "fit")])


def run_task(cfg: DictConfig, parts: Parts, task: str, folder: Path) -> None:
    """Fit and test one task and write its outputs into ``folder``."""
    reset_peak()
    data = TaskData(parts.benchmark, task, cfg.loss.fit.batch_size, **cfg.loader)
    data.prepare_data()
    seconds = {"features": 0.0}
    with task_loggers(cfg, folder.parents[1].name, task, folder) as loggers:
        trainer = make_trainer(cfg, loggers, parts.one_pass)
        if parts.cache.enabled and parts.benchmark.rotate:
            log.info("cache: off, since dataset.rotate makes new training images every epoch")
        elif parts.cache.enabled:
            with timed(seconds, "features"):
                use_features(data, parts.cache, parts.backbone, trainer.strategy.root_device)
        # Not before: a pass for the cache draws random numbers, a hit draws none.
        seed_everything(cfg.seed, workers=True, verbose=False)
        detector = make_detector(cfg, parts)
        with timed(seconds, "fit"):
            fit(trainer, detector, data, cfg.oracle)
        trainer.save_checkpoint(folder / "checkpoints" / "last.ckpt", weights_only=True)
        with timed(seconds, "test"):
            trainer.test(detector, data.test_dataloader(), verbose=False)
        figures: dict[str, Any] = {
            **detector.figures,
            "n_train": len(data.split.train),
            "n_test": len(data.split.test),
            "seconds": seconds,
            "peak_memory_mb": peak_mb(),
        }
        if cfg.oracle:
            figures["oracle_best_epoch"] = best_epochs(detector.history)
        write_scores(folder, data, detector)
        log_pictures(loggers, write_pictures(folder / "maps", data, detector, cfg.maps))
    write_whole(folder / "metrics.json", to_json(figures))


@contextmanager
def timed(seconds: dict[str, float], part: str) -> Iterator[None]:
    """Note how many seconds the block took."""
    started = time.perf_counter()
    yield
    seconds[part] = time.perf_counter() - started


def make_detector(cfg: DictConfig, parts: Parts) -> Detector:
    """An untrained detector; its random weights come from the global seed."""
    projector = build(cfg.projector, "projector", channels=parts.backbone.channels)
    return Detector(
        parts.backbone,
        projector,
        build(
            without_fit(cfg.loss),
            "loss",
            channels=projector.out_channels,
            levels=parts.backbone.channels,
        ),
        build(cfg.loss.fit.optimizer, "loss.fit.optimizer"),
        parts.postprocess,
        size=(parts.benchmark.crop, parts.benchmark.crop),
    )


def make_trainer(cfg: DictConfig, loggers: list, one_pass: bool) -> Trainer:
    """Lightning's trainer, with less to read in the terminal."""
    epochs = 1 if one_pass else cfg.trainer.max_epochs
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for harmless in QUIET:
        warnings.filterwarnings("ignore", message=harmless)
    return build(
        cfg.trainer,
        "trainer",
        logger=loggers,
        max_epochs=epochs,
        callbacks=[RichProgressBar()],
    )


def fit(trainer: Trainer, detector: Detector, data: TaskData, oracle: bool) -> None:
    """Fit; with ``oracle``, look at the test set after every epoch as well."""
    watched = data.test_dataloader() if oracle else None
    detector.setup_batches = data.setup_dataloader
    trainer.fit(detector, data.train_dataloader(), watched)


def best_epochs(history: list[dict[str, float]]) -> dict[str, dict[str, float]]:
    """The best epoch of each metric by the test set itself: an oracle, to be reported as one."""
    best = {}
    for metric in history[0]:
        values = [figures[metric] for figures in history]
        epoch = int(np.argmax(values))
        best[metric] = {"value": values[epoch], "epoch": epoch + 1}
    return best


def write_scores(folder: Path, data: TaskData, detector: Detector) -> None:
    """Write ``scores.csv``: path, label and score of each test image, in the split's order."""
    columns = (detector.gathered(name).tolist() for name in ("index", "label", "score"))
    rows = [
        {"path": str(data.split.test[index]), "label": label, "score": score}
        for index, label, score in zip(*columns, strict=True)
    ]
    write_whole(folder / "scores.csv", to_csv(rows))


def write_pictures(folder: Path, data: TaskData, detector: Detector, count: int) -> list[Path]:
    """Save the pictures of the worst misses; a semantic task has the images alone."""
    images = data.test_images
    side = data.benchmark.crop
    low_resolution = detector.gathered("map")

    def heat(place: int) -> np.ndarray:
        anomaly_map = detector.postprocess.maps(low_resolution[place : place + 1], (side, side))
        assert anomaly_map is not None
        return anomaly_map[0].float().numpy()

    has_maps = low_resolution.shape[-2:] != torch.Size([1, 1])
    return save_pictures(
        folder,
        images.__getitem__,
        heat if has_maps else None,
        detector.gathered("score").numpy(),
        detector.gathered("label").numpy(),
        count,
    )
