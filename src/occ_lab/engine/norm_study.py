"""The norm study: every norm and time of the closed form, from one set of features a task."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from lightning import Fabric
from omegaconf import DictConfig, ListConfig, OmegaConf
from rich.console import Console
from sklearn.metrics import roc_auc_score
from torch import Tensor
from torch.utils.data import DataLoader

import occ_lab
from occ_lab.backbones.base import FrozenBackbone
from occ_lab.config.composition import build, check_value, resolved
from occ_lab.data.base import Benchmark
from occ_lab.data.datamodule import AnomalyDataModule
from occ_lab.features.cache import FeatureCache
from occ_lab.features.extraction import use_features
from occ_lab.features.levels import pieces
from occ_lab.metrics import ImageAUROC, PixelAUROC
from occ_lab.objectives.norm.domain import domain_end, measured_end
from occ_lab.objectives.norm.drawn import DrawnMaps, length_and_cosine
from occ_lab.objectives.norm.moments import HalvedMoments
from occ_lab.objectives.norm.norm_maps import NormMaps
from occ_lab.postprocessing.postprocess import PostProcess
from occ_lab.reporting.norm_plots import Cloud, save_curve, save_histograms, save_polar
from occ_lab.reporting.record import to_csv, to_json
from occ_lab.reporting.tables.norm_study import study_table
from occ_lab.utils.allocator import keep_freed_memory
from occ_lab.utils.errors import InputError
from occ_lab.utils.files import whole_folder, write_whole

DROP = 0.01  # of the AUROC: where it has fallen so far, the domain has ended in truth
IMAGES = 32  # upsampled at once


@dataclass(frozen=True)
class Parts:
    """What the tasks of a study share."""

    benchmark: Benchmark
    backbone: FrozenBackbone
    cache: FeatureCache
    postprocess: PostProcess
    device: torch.device


@dataclass(frozen=True)
class Scored:
    """The maps of a task's test images; T times, N images on a grid of H × W.

    Attributes:
        spread: s₀², ``[T, N, H, W]``.
        constant: s₁, ``[T, N, H, W]``.
        drawn: what `DrawnMaps` gives, ``[3, N, H, W]``.
        labels: ``[N]``, 1 abnormal.
        masks: bool ``[N, h, w]``, or None.
    """

    spread: Tensor
    constant: Tensor
    drawn: Tensor
    labels: Tensor
    masks: Tensor | None


def study(cfg: DictConfig, directory: Path) -> dict[str, dict[str, Any]]:
    """Study every task that ``cfg.dataset`` selects; write all into ``directory``.

    Returns:
        The figures of each task, as in ``norm_study.json``.

    Raises:
        InputError: a value out of range, absent data, results already there, a file that cannot be
            used.
    """
    keep_freed_memory()
    cfg = resolved(cfg)
    parts = check(cfg)
    summary = directory / "norm_study.json"
    if summary.is_file():
        raise InputError(
            f"hydra.run.dir: {directory} already holds a study; name another directory"
        )
    write_whole(directory / "config.yaml", OmegaConf.to_yaml(cfg))
    header = {
        "dataset": cfg.dataset.name,
        "backbone": cfg.backbone.name,
        "seed": cfg.seed,
        "version": occ_lab.__version__,
        "norms": list(cfg.norms),
    }
    tasks = parts.benchmark.tasks()
    console = Console()
    figures: dict[str, dict[str, Any]] = {}
    try:
        for place, task in enumerate(tasks, start=1):
            console.rule(f"{task} ({place} of {len(tasks)})", align="left")
            with whole_folder(directory / "tasks" / task) as folder:
                figures[task] = study_task(cfg, parts, task, folder)
            write_whole(summary, to_json({**header, "tasks": figures}))
            rows = [row for name in figures for row in grid_rows(name, cfg.norms, figures[name])]
            write_whole(directory / "norm_study.csv", to_csv(rows))
    except KeyboardInterrupt:
        console.print(f"\nStopped; {len(figures)} of {len(tasks)} tasks are in {directory}")
        raise SystemExit(130) from None
    title = f"norm study on {cfg.dataset.name}, {cfg.backbone.name}, seed {cfg.seed} (per cent)"
    console.print(study_table(title, figures))
    console.print(f"figures:  {summary}", soft_wrap=True)
    console.print(f"pictures: {directory}/tasks/*/*.png", soft_wrap=True)
    return figures


def check(cfg: DictConfig) -> Parts:
    """Build what all tasks share, and let every value be checked before any work."""
    for key, rule in (
        ("norms", {"above": 0}),
        ("times", {"at_least": 0}),
        ("pictures.norms", {"above": 0}),
    ):
        values = OmegaConf.select(cfg, key)
        if not isinstance(values, ListConfig) or not values:
            raise InputError(f"{key} must be a list of numbers like [1,10], got {values!r}")
        for place in range(len(values)):
            check_value(cfg, f"{key}[{place}]", **rule)
    if list(cfg.norms) != sorted(set(cfg.norms)):
        raise InputError(f"norms must rise, got {list(cfg.norms)}")
    check_value(cfg, "pictures.time", at_least=0)
    check_value(cfg, "seed", at_least=0, integer=True)
    check_value(cfg, "loader.eval_batch_size", at_least=1, integer=True)
    check_value(cfg, "loader.workers", at_least=0, integer=True)
    benchmark, backbone = build(cfg.dataset, "dataset"), build(cfg.backbone, "backbone")
    backbone.check_tasks(benchmark.tasks())
    return Parts(
        benchmark,
        backbone,
        build(cfg.cache, "cache"),
        build(cfg.scoring, "scoring"),
        Fabric(accelerator=cfg.accelerator, devices=1).device,
    )


def study_task(cfg: DictConfig, parts: Parts, task: str, folder: Path) -> dict[str, Any]:
    """Study one task and save its pictures into ``folder``."""
    started = time.perf_counter()
    parts = replace(parts, backbone=parts.backbone.for_task(task))
    data = AnomalyDataModule(parts.benchmark, task, cfg.loader.eval_batch_size, **cfg.loader)
    data.prepare_data()
    if len(data.split.train) < 4:
        raise InputError(f"{task}: the domain needs at least 4 training images, for two halves")
    if parts.cache.enabled:
        use_features(data, parts.cache, parts.backbone, parts.device)
    parts.backbone.to(parts.device)
    moments = HalvedMoments(cfg.normalize).to(parts.device)
    for batch in data.setup_dataloader():
        moments.update(levels_of(parts, batch))
    domains = domain_ends(cfg, parts, data, moments)
    scored = score(cfg, parts, data.test_dataloader(), moments.mean)

    figures: dict[str, Any] = {
        "n_train": len(data.split.train),
        "n_test": len(data.split.test),
        "channels": sum(parts.backbone.channels),
        "times": [
            {"time": t, **grid_figures(parts, scored, place, cfg.norms, end)}
            for place, (t, end) in enumerate(zip(cfg.times, domains, strict=True))
        ],
    }
    clouds = [cloud(scored, norm) for norm in cfg.pictures.norms]
    figures["pictures"] = {
        "time": cfg.pictures.time,
        "position_auroc": [{"norm": points.norm, **points.aurocs} for points in clouds],
    }
    figures["seconds"] = time.perf_counter() - started
    title = f"{cfg.dataset.name} · {task} · {cfg.backbone.name}"
    at_time = f"{title} · t = {cfg.pictures.time:g}"
    save_curve(folder / "curve.png", title, cfg.norms, figures["times"])
    save_histograms(folder / "histograms.png", at_time, clouds)
    save_polar(folder / "polar.png", at_time, clouds, cfg.seed)
    return figures


def levels_of(parts: Parts, batch: dict[str, Any]) -> list[Tensor]:
    """The levels ``[B, C_l, H_l, W_l]`` of a batch, cached or computed, float32 on the device."""
    if "levels" in batch:
        return [level.to(parts.device).float() for level in batch["levels"]]
    with torch.inference_mode():
        return parts.backbone(batch["image"].to(parts.device))


def domain_ends(
    cfg: DictConfig, parts: Parts, data: AnomalyDataModule, moments: HalvedMoments
) -> list[float]:
    """norm* of each time: each half of the training images is held out from the other's Σ."""
    models = [
        NormMaps(moments.half_mean(other), parts.backbone.channels, cfg.times, cfg.normalize)
        for other in (1, 0)
    ]
    scores: list[Tensor] = []
    for batch in data.setup_dataloader():
        levels = levels_of(parts, batch)
        for place, model in enumerate(models):
            own = batch["index"] % 2 == place
            for piece in pieces([level[own.to(level.device)] for level in levels]):
                spread, constant = model.to(parts.device)(piece)
                maps = torch.stack([spread, constant.square()]).cpu()  # [2, T, B, H, W]
                image_scores = whole_scores(parts, maps.flatten(0, 2))
                scores.append(image_scores.view(maps.shape[:3]))
    both = torch.cat(scores, dim=2)
    return [domain_end(spread, constant) for spread, constant in zip(*both, strict=True)]


def whole_scores(parts: Parts, scores: Tensor) -> Tensor:
    """Image scores ``[B]`` of low-resolution scores ``[B, H, W]``."""
    return parts.postprocess.image_scores(scores, full_size(parts, scores))


def full_size(parts: Parts, scores: Tensor) -> Tensor | None:
    """Anomaly maps ``[B, h, w]`` of scores ``[B, H, W]``; None for a single position."""
    return parts.postprocess.maps(scores, (parts.benchmark.crop, parts.benchmark.crop))


def score(cfg: DictConfig, parts: Parts, batches: DataLoader, sigma: Tensor) -> Scored:
    """All maps of the test images, by one pass over their features."""
    channels = parts.backbone.channels
    expected = NormMaps(sigma, channels, cfg.times, cfg.normalize).to(parts.device)
    one_draw = DrawnMaps(sigma, channels, cfg.pictures.time, cfg.normalize, cfg.seed)
    one_draw = one_draw.to(parts.device)
    maps, labels, masks = [], [], []
    for batch in batches:
        for piece in pieces(levels_of(parts, batch)):
            maps.append([x.cpu() for x in (*expected(piece), one_draw(piece))])
        labels.append(batch["label"])
        masks += [batch["mask"]] if "mask" in batch else []
    spread, constant, drawn = (torch.cat(part, dim=1) for part in zip(*maps, strict=True))
    return Scored(spread, constant, drawn, torch.cat(labels), torch.cat(masks) if masks else None)


def aurocs(
    parts: Parts, scored: Scored, place: int, norm: float, pixels: bool = True
) -> dict[str, float]:
    """Image and, with masks and if ``pixels``, pixel AUROC at the time in this place and a norm."""
    image, pixel = ImageAUROC(), PixelAUROC()
    masks = scored.masks if pixels else None
    maps = (scored.spread[place] + norm**2 * scored.constant[place].square()).sqrt()
    for at_once in torch.arange(len(scored.labels)).split(IMAGES):
        full = full_size(parts, maps[at_once])
        image_scores = parts.postprocess.image_scores(maps[at_once], full)
        image.update(image_scores, scored.labels[at_once])
        if full is not None and masks is not None:
            pixel.update(full, masks[at_once])
    figures = {"image_auroc": float(image.compute())}
    if masks is not None:
        figures["pixel_auroc"] = float(pixel.compute())
    return figures


def grid_figures(
    parts: Parts, scored: Scored, place: int, norms: ListConfig, end: float
) -> dict[str, Any]:
    """The AUROCs of a time over the norms, and how well the estimated domain fits them."""
    columns = [aurocs(parts, scored, place, norm) for norm in norms]
    grid = {name: [figures[name] for figures in columns] for name in columns[0]}
    image = grid["image_auroc"]
    best = int(np.argmax(image))
    at_end, at_1 = (
        aurocs(parts, scored, place, norm, pixels=False)["image_auroc"] for norm in (end, 1.0)
    )
    measured = measured_end(norms, image, DROP)
    return {
        **grid,
        "domain": {"start": 0.0, "end": end},
        "agreement": {
            "best_norm": norms[best],
            "auroc_at_best": image[best],
            "auroc_at_1": at_1,
            "auroc_at_end": at_end,
            "lost_at_end": image[best] - at_end,
            "measured_end": measured,
            "octaves_off": None if measured is None else math.log2(end / measured),
        },
    }


def cloud(scored: Scored, norm: float) -> Cloud:
    """The test positions as they lie about a target of this norm.

    Normal are all positions of normal images; abnormal are those that a mask touches, or where
    there are no masks all positions of abnormal images.
    """
    length, cosine = length_and_cosine(scored.drawn, norm)
    normal_image = (scored.labels == 0)[:, None, None].expand(length.shape)
    abnormal = ~normal_image
    if scored.masks is not None:
        cells = F.adaptive_max_pool2d(scored.masks.float()[:, None], length.shape[-2:])
        abnormal = cells[:, 0] > 0
    chosen = normal_image | abnormal
    lengths, cosines = (x[chosen].double().numpy() for x in (length, cosine))
    kinds = abnormal[chosen].numpy()
    told_by = {
        "angle": -cosines,
        "length": np.abs(lengths - norm),
        "score": lengths**2 - 2 * norm * lengths * cosines,  # ‖φ − c‖² but for norm²
    }
    aurocs = {name: float(roc_auc_score(kinds, values)) for name, values in told_by.items()}
    return Cloud(norm, lengths, cosines, kinds, aurocs)


def grid_rows(task: str, norms: ListConfig, figures: dict[str, Any]) -> list[dict[str, Any]]:
    """The rows of ``norm_study.csv`` of one task."""
    return [
        {
            "task": task,
            "time": grid["time"],
            "norm": norm,
            **{name: grid[name][place] for name in grid if name.endswith("_auroc")},
            "in_domain": norm <= grid["domain"]["end"],
        }
        for grid in figures["times"]
        for place, norm in enumerate(norms)
    ]
