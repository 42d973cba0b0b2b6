"""One run: for each one-class task of the dataset, fit, test, record."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from lightning.pytorch.loggers import Logger
from omegaconf import DictConfig, ListConfig
from rich.console import Console
from torch import Tensor

import occ_lab
from occ_lab.config.composition import build, check_value, resolved
from occ_lab.data.base import Benchmark
from occ_lab.data.datamodule import TaskData
from occ_lab.engine.calibrate import check_calibration, figures_of, write_calibration
from occ_lab.engine.explain import check_explanations, write_explanations
from occ_lab.engine.fit import Fitted, Parts, fitted, without_fit
from occ_lab.metrics.evaluation import Evaluation
from occ_lab.postprocessing.ensemble import View, ensemble
from occ_lab.postprocessing.postprocess import PostProcess
from occ_lab.reporting.pictures import save_pictures
from occ_lab.reporting.record import METRICS, RunRecord, leads, to_csv, to_json
from occ_lab.reporting.tables.results import TITLES, calibration_table, percent, results_table
from occ_lab.reporting.tracking import Tracking, tracked
from occ_lab.utils.allocator import keep_freed_memory
from occ_lab.utils.errors import InputError
from occ_lab.utils.files import write_whole
from occ_lab.utils.memory import peak_mb, reset_peak

LEAST = {  # the least that these numbers may be
    "seed": 0,
    "maps": 0,
    "explain.count": 0,
    "loader.workers": 0,
    "loader.eval_batch_size": 1,
    "loss.fit.epochs": 1,
    "loss.fit.batch_size": 1,
    "pretrain.epochs": 0,
}
IMAGES = 32  # upsampled at once

Fit: TypeAlias = Callable[[DictConfig, Parts, Benchmark, str, list[Logger], Path], Fitted]


@dataclass(frozen=True)
class Tested:
    """What a test says of the images of a task, in the order of the split.

    Attributes:
        data: the task, as the maps show it.
        figures: the metrics, in 0..1.
        labels: ``[N]``, 1 anomalous.
        scores: of the images, ``[N]``.
        maps: ``[N, H, W]``, before they are upsampled and smoothed.
    """

    data: TaskData
    figures: dict[str, float]
    labels: Tensor
    scores: Tensor
    maps: Tensor


def run(cfg: DictConfig, directory: Path, fit: Fit = fitted) -> dict[str, dict[str, Any]]:
    """Fit and test every task that ``cfg.dataset`` selects; write all into ``directory``.

    Args:
        cfg: the configuration of ``occ_lab.train``.
        directory: the run directory.
        fit: what makes a fitted and tested detector of a task, with the arguments of `fitted`.

    Returns:
        The figures of each task, as in ``metrics.json``; nothing in a process that does not lead.

    Raises:
        InputError: a value out of range, absent data, a file that cannot be used; all before any
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
        "train_limit": cfg.dataset.train_limit,
        "contamination": cfg.dataset.contamination,
        "version": occ_lab.__version__,
    }
    record = RunRecord(directory, header, cfg)
    console = Console(quiet=not record.leads)
    with tracked(cfg, directory, record.leads, cfg.loss.name) as tracking:
        run_tasks(cfg, parts, record, tracking, console, fit)
        if not record.leads:
            return {}
        figures = {task: record.finished[task] for task in tasks}
        tracking.run_ended(figures)
    title = (
        f"{cfg.loss.name} on {cfg.dataset.name}, {cfg.backbone.name}, seed {cfg.seed} (per cent)"
    )
    console.print(results_table(title, figures))
    calibrated = calibration_table(figures)
    if calibrated:
        console.print(calibrated)
    if cfg.published:
        console.print(published(cfg.published), soft_wrap=True)
    console.print(f"run directory: {directory}", soft_wrap=True)
    if cfg.maps:
        console.print(f"heatmaps:      {directory}/tasks/*/maps/*.png", soft_wrap=True)
    if cfg.explain.count:
        console.print(f"explanations:  {directory}/tasks/*/explanations/*.png", soft_wrap=True)
    return figures


def run_tasks(
    cfg: DictConfig,
    parts: Parts,
    record: RunRecord,
    tracking: Tracking,
    console: Console,
    fit: Fit,
) -> None:
    """Every task that is not finished, one after another.

    Raises:
        SystemExit: Ctrl-C; what is finished stays.
    """
    tasks = parts.benchmark.tasks()
    try:
        for place, task in enumerate(tasks, start=1):
            if task in record.finished:
                console.print(f"{task}: finished before, skipped")
                continue
            console.rule(f"{task} ({place} of {len(tasks)})", align="left")
            with record.task(task) as folder:
                run_task(cfg, parts, task, folder, tracking, fit)
    except (KeyboardInterrupt, SystemExit):  # Lightning turns Ctrl-C during a fit into an exit
        console.print(f"\nStopped; {len(record.finished)} of {len(tasks)} tasks are finished.")
        again = f"Go on: the same command with resume=true hydra.run.dir={record.directory}"
        console.print(again, soft_wrap=True)
        raise SystemExit(130) from None


def published(figures: DictConfig) -> str:
    """The published metrics beside ours, in a line."""
    told = [
        f"{TITLES[metric]} {percent(figures[metric])}" for metric in METRICS if metric in figures
    ]
    return f"published: {', '.join(told)}; {figures.source}"


def check(cfg: DictConfig) -> Parts:
    """Build what all tasks share, and let every value be checked before any work."""
    for key, least in LEAST.items():
        check_value(cfg, key, at_least=least, integer=True)
    views = views_of(cfg)
    objective = build(without_fit(cfg.loss), "loss", channels=1, levels=[1])
    if cfg.oracle and objective.one_pass:
        raise InputError(f"oracle: loss={cfg.loss.name} learns in one pass; it has no best epoch")
    check_explanations(cfg)
    check_calibration(cfg)
    postprocess = build(cfg.scoring, "scoring")
    backbone = build(cfg.backbone, "backbone")
    backbone.check_tasks(views[0].tasks())
    for view in views:
        backbone.check_size(view.crop, view.crop)
    if cfg.pretrain.epochs and not backbone.trained:
        raise InputError(
            f"pretrain: the backbone {backbone.name} is frozen; leave pretrain out, "
            "or take backbone=lenet"
        )
    build(cfg.projector, "projector", channels=backbone.channels)
    cache = build(cfg.cache, "cache")
    return Parts(views, backbone, cache, postprocess, objective.one_pass)


def views_of(cfg: DictConfig) -> list[Benchmark]:
    """The benchmark as each input shows it; the one whose frame the maps have comes first."""
    if cfg.ensemble is None:
        return [build(cfg.dataset, "dataset")]
    given = cfg.ensemble if isinstance(cfg.ensemble, ListConfig) else []
    views = [
        build(cfg.dataset, "dataset", **{str(key): value for key, value in view.items()})
        for view in given
        if isinstance(view, DictConfig)
    ]
    whole = [view for view in views if view.crop == view.resize]
    if len(views) < max(2, len(given)) or not whole:
        raise InputError(
            "ensemble must be null, or two or more views of which one shows the whole image, "
            f"such as [{{resize:224,crop:224}},{{resize:256,crop:224}}], got {cfg.ensemble}"
        )
    return [whole[0], *(view for view in views if view is not whole[0])]


def run_task(
    cfg: DictConfig, parts: Parts, task: str, folder: Path, tracking: Tracking, fit: Fit
) -> None:
    """Fit and test one task and write its outputs into ``folder``."""
    reset_peak()
    parts = replace(parts, backbone=parts.backbone.for_task(task))
    loggers = tracking.loggers(task, folder)
    members = []
    for place, benchmark in enumerate(parts.views):
        checkpoint = folder / "checkpoints" / ("last.ckpt" if not place else f"view{place}.ckpt")
        logged = [] if place else loggers  # two curves of one name would run into each other
        members.append(fit(cfg, parts, benchmark, task, logged, checkpoint))
    tested = joined(parts.postprocess, members) if len(members) > 1 else alone(members[0])
    seconds = {
        stage: sum(member.seconds[stage] for member in members) for stage in members[0].seconds
    }
    figures: dict[str, Any] = {
        **tested.figures,
        "n_train": len(tested.data.split.train),
        "n_train_anomalous": sum(item.label for item in tested.data.split.train),
        "n_test": len(tested.data.split.test),
        "seconds": seconds,
        "peak_memory_mb": peak_mb(),
        "trainable_parameters": sum(member.detector.trainable for member in members),
    }
    if cfg.oracle:
        figures["oracle_best_epoch"] = best_epochs(members[0].detector.history)
    calibration = members[0].calibration
    if calibration is not None:
        overkill = cfg.calibration.overkill
        figures["calibration"] = figures_of(calibration, overkill, tested.scores, tested.labels)
        write_calibration(folder / "calibration.json", calibration)
    write_scores(folder, tested)
    pictures = write_pictures(folder / "maps", tested, parts.postprocess, cfg.maps)
    tracking.task_ended(task, tested.scores.numpy(), tested.labels.numpy(), pictures)
    if cfg.explain.count and leads():
        write_explanations(
            folder / "explanations",
            cfg.explain,
            members[0],
            tested.scores.numpy(),
            tested.labels.numpy(),
        )
    write_whole(folder / "metrics.json", to_json(figures))


def alone(member: Fitted) -> Tested:
    """What one detector's own test says."""
    detector = member.detector
    return Tested(member.data, detector.figures, *map(detector.gathered, ("label", "score", "map")))


def joined(postprocess: PostProcess, members: list[Fitted]) -> Tested:
    """What the detectors of all views say together, in the frame of the first: CFA++."""
    views = [View(member.data.benchmark.resize, member.data.benchmark.crop) for member in members]
    maps = ensemble(
        [member.detector.gathered("map") for member in members],
        [member.training_scores() for member in members],
        views,
        frame=views[0],
    )
    data = members[0].data
    labels = members[0].detector.gathered("label")
    size = (data.benchmark.crop, data.benchmark.crop)
    evaluation, scores = Evaluation(), []
    for places in torch.arange(len(maps)).split(IMAGES):
        full = postprocess.maps(maps[places], size)
        scores.append(postprocess.image_scores(maps[places], full))
        facts = [data.test_images.facts(int(place)) for place in places]
        masks = torch.stack([each["mask"] for each in facts]) if data.split.has_masks else None
        evaluation.update(scores[-1], labels[places], full, masks)
    return Tested(data, evaluation.compute(), labels, torch.cat(scores), maps)


def best_epochs(history: list[dict[str, float]]) -> dict[str, dict[str, float]]:
    """The best epoch of each metric by the test set itself: an oracle, to be reported as one."""
    best = {}
    for metric in history[0]:
        values = [figures[metric] for figures in history]
        epoch = int(np.argmax(values))
        best[metric] = {"value": values[epoch], "epoch": epoch + 1}
    return best


def write_scores(folder: Path, tested: Tested) -> None:
    """Write ``scores.csv``: path, label and score of each test image, in the split's order."""
    rows = [
        {"path": str(item), "label": label, "score": score}
        for item, label, score in zip(
            tested.data.split.test, tested.labels.tolist(), tested.scores.tolist(), strict=True
        )
    ]
    write_whole(folder / "scores.csv", to_csv(rows))


def write_pictures(
    folder: Path, tested: Tested, postprocess: PostProcess, count: int
) -> list[Path]:
    """Save the pictures of the worst misses; a semantic task has the images alone."""
    images = tested.data.test_images
    side = tested.data.benchmark.crop

    def heat(place: int) -> np.ndarray:
        anomaly_map = postprocess.maps(tested.maps[place : place + 1], (side, side))
        assert anomaly_map is not None
        return anomaly_map[0].float().numpy()

    has_maps = tested.maps.shape[-2:] != torch.Size([1, 1])
    return save_pictures(
        folder,
        images.__getitem__,
        heat if has_maps else None,
        tested.scores.numpy(),
        tested.labels.numpy(),
        count,
    )
