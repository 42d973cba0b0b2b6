"""The norm study: all norms and times of the closed form, from one set of features per task."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
import yaml
from rich.console import Console
from torch import Tensor

from occ_lab.backbones.base import Backbone, FrozenBackbone
from occ_lab.data.base import Benchmark
from occ_lab.data.datamodule import AnomalyDataModule
from occ_lab.engine.norm_figures import NormScores
from occ_lab.features.cache import FeatureCache
from occ_lab.features.extraction import use_features
from occ_lab.features.levels import pieces
from occ_lab.features.regions import framed_levels, valid_positions
from occ_lab.objectives.norm.domain import domain_end, settled_end
from occ_lab.objectives.norm.drawn import DrawnMaps
from occ_lab.objectives.norm.local_form import INTEGRATED
from occ_lab.objectives.norm.local_moments import LocalMoments
from occ_lab.objectives.norm.norm_maps import NormMaps, integrated
from occ_lab.postprocessing.postprocess import PostProcess
from occ_lab.reporting.norm_plots import save_curve, save_histograms, save_polar
from occ_lab.reporting.record import to_csv, to_json
from occ_lab.reporting.tables.norm_study import study_table
from occ_lab.utils.errors import InputError, check_number
from occ_lab.utils.files import whole_folder, write_whole
from occ_lab.utils.scratch import clean, visible

SUMMARY = "norm_study.json"


@dataclass(frozen=True)
class Pictures:
    """The settings of the histograms and polar plots.

    Args:
        time: how long the gradient flow is followed, at least 0.
        norms: the norms to draw, usually a small and a large one; above 0.

    Raises:
        ValueError: a value is out of range; the message begins with its name.
    """

    time: float = 10
    norms: Sequence[float] = (1, 64)

    def __post_init__(self) -> None:
        check_number("time", self.time, at_least=0)
        check_numbers("norms", self.norms, above=0)


@dataclass(frozen=True)
class NormStudy:
    """The settings of a norm study.

    Args:
        benchmark: its tasks are studied one after another.
        backbone: a frozen backbone.
        norms: the norms of the target, above 0, in ascending order.
        times: how long the gradient flow is followed, each at least 0; or ``integrated``, the sum
            over several times that is the default of `Norm`.
        cell: the number of positions along a side of a cell, each of which has its own projector;
            None uses one projector for all positions. The bias follows the flow, because the norm
            would have no effect with a solved bias.
        normalize: whether each feature vector is scaled to length √C.
        pictures: the settings of histograms and polar plots.
        postprocess: computes image scores and maps from scores.
        cache: the feature cache; None computes features in every pass.
        eval_batch_size: the number of images in a batch, at least 1.
        workers: see `AnomalyDataModule`.
        seed: the seed of the random numbers for the plots, at least 0.
        device: the device for computations.

    Raises:
        InputError: data is missing, or the backbone is trained or does not fit the tasks.
        ValueError: a value is out of range; the message begins with its name.
    """

    benchmark: Benchmark
    backbone: FrozenBackbone
    norms: Sequence[float] = (0.125, 0.25, 0.5, 1, 2, 4, 8, 16, 32, 64, 128, 256)
    times: Sequence[float | Literal["integrated"]] = (1, 3, 10, "integrated")
    cell: int | None = 4
    normalize: bool = False
    pictures: Pictures = field(default_factory=Pictures)
    postprocess: PostProcess = field(default_factory=PostProcess)
    cache: FeatureCache | None = None
    eval_batch_size: int = 32
    workers: int = 0
    seed: int = 0
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    def __post_init__(self) -> None:
        check_numbers("norms", self.norms, above=0)
        check_numbers("times", self.times, word="integrated", at_least=0)
        if self.cell is not None:
            check_number("cell", self.cell, at_least=1, integer=True)
        if list(self.norms) != sorted(set(self.norms)):
            raise ValueError(f"norms must be in rising order, got {list(self.norms)}")
        check_number("eval_batch_size", self.eval_batch_size, at_least=1, integer=True)
        check_number("workers", self.workers, at_least=0, integer=True)
        check_number("seed", self.seed, at_least=0, integer=True)
        frozen(self.backbone).check_tasks(self.benchmark.tasks())
        if self.benchmark.crop != "whole":
            self.backbone.check_size(self.benchmark.crop, self.benchmark.crop)
        self.benchmark.multiple = self.backbone.multiple
        if self.benchmark.tile is not None:
            raise InputError("tile: a norm study has no tiles; set it to null", part="dataset")

    @property
    def flow_times(self) -> list[float]:
        """All t whose maps are computed."""
        several = INTEGRATED if "integrated" in self.times else ()
        return sorted({*several, *(time for time in self.times if not isinstance(time, str))})

    def indices(self, time: float | str) -> list[int]:
        """The indices in `flow_times` of the times that one entry of `times` adds up."""
        wanted = INTEGRATED if isinstance(time, str) else (time,)
        return [self.flow_times.index(t) for t in wanted]

    def levels(self, batch: dict[str, Any]) -> list[Tensor]:
        """The levels ``[B, C_l, H_l, W_l]`` of a batch, cached or computed, float32."""
        if "levels" in batch:
            return [level.to(self.device).float() for level in batch["levels"]]
        with torch.inference_mode():
            return framed_levels(self.backbone, batch["image"].to(self.device), batch.get("box"))


def frozen(backbone: Backbone) -> FrozenBackbone:
    """The backbone itself, if it is frozen.

    Raises:
        InputError: it is trained.
    """
    if not isinstance(backbone, FrozenBackbone):
        raise InputError(
            f"a norm study needs a frozen backbone, not {backbone.name}", part="backbone"
        )
    return backbone


def check_numbers(name: str, values: object, word: str | None = None, **rules: Any) -> None:
    """Raise a ValueError unless ``values`` is a list of numbers that obey `check_number`.

    Args:
        name: the name of the list.
        values: the list.
        word: a word that is also allowed as an entry.
        rules: see `check_number`.
    """
    if not isinstance(values, Sequence) or isinstance(values, str) or not values:
        raise ValueError(f"{name} must be a list of numbers like [1,10], got {values!r}")
    for index, value in enumerate(values):
        if word is None or value != word:
            check_number(f"{name}[{index}]", value, **rules)


def study(
    plan: NormStudy, directory: Path, header: Mapping[str, Any], settings: Mapping[str, Any]
) -> dict[str, dict[str, Any]]:
    """Study every task of the benchmark, and write and print the results.

    Args:
        plan: the settings of the study.
        directory: the run directory.
        header: ``dataset``, ``backbone``, ``seed`` and ``version``.
        settings: all settings of the study as plain data; they are stored as ``config.yaml``.

    Returns:
        The results of each task, as in ``norm_study.json``.

    Raises:
        InputError: there are results already, too few images, or a file that cannot be used.
        SystemExit: Ctrl-C; finished tasks are kept.
    """
    summary = directory / SUMMARY
    if summary.is_file() or visible(directory, "tasks/*"):
        raise InputError(
            f"{directory} already holds a study; name another directory", part="directory"
        )
    clean(directory)
    write_whole(
        directory / "config.yaml",
        yaml.safe_dump(dict(settings), sort_keys=False, allow_unicode=True),
    )
    tasks = plan.benchmark.tasks()
    console = Console()
    figures: dict[str, dict[str, Any]] = {}
    try:
        for number, task in enumerate(tasks, start=1):
            console.rule(f"{task} ({number} of {len(tasks)})", align="left")
            with whole_folder(directory / "tasks" / task) as folder:
                title = f"{header['dataset']} · {task} · {header['backbone']}"
                figures[task] = study_task(plan, task, folder, title)
            content = {**header, "norms": list(plan.norms), "tasks": figures}
            write_whole(summary, to_json(content))
            rows = [row for name in figures for row in grid_rows(name, plan.norms, figures[name])]
            write_whole(directory / "norm_study.csv", to_csv(rows))
    except KeyboardInterrupt:
        console.print(f"\nStopped; {len(figures)} of {len(tasks)} tasks are in {directory}")
        raise SystemExit(130) from None
    about = f"{header['dataset']}, {header['backbone']}, seed {header['seed']}"
    console.print(study_table(f"norm study on {about} (per cent)", figures))
    console.print(f"figures:  {summary}", soft_wrap=True)
    console.print(f"pictures: {directory}/tasks/*/*.png", soft_wrap=True)
    return figures


def study_task(plan: NormStudy, task: str, folder: Path, title: str) -> dict[str, Any]:
    """Study one task and save its pictures, with ``title`` as their heading, to ``folder``.

    Raises:
        InputError: there are fewer than four training images, or a file that cannot be used.
    """
    started = time.perf_counter()
    plan = replace(plan, backbone=frozen(plan.backbone.for_task(task)))
    data = AnomalyDataModule(
        plan.benchmark, task, plan.eval_batch_size, plan.eval_batch_size, plan.workers
    )
    data.prepare_data()
    if len(data.split.train) < 4:
        raise InputError(f"{task}: the domain needs at least 4 training images, for two halves")
    if plan.cache is not None:
        use_features(data, plan.cache, plan.backbone, plan.device)
    plan.backbone.to(plan.device)
    halves = [LocalMoments(plan.cell, plan.normalize).to(plan.device) for _ in range(2)]
    for batch in data.setup_dataloader():
        for moments, own in zip(halves, halves_of(batch), strict=True):
            levels, valid = plan.levels(own), None
            if "box" in own:
                grid, size = levels[0].shape[-2:], data.preprocessing.size
                valid = valid_positions(own["box"], size, grid, levels[0].device)
            moments.update(levels, valid)
    ends = domain_ends(plan, data, halves)
    whole, other = halves
    whole.add(other.state())
    scores = score_test_images(plan, data, whole)
    assert whole.cells is not None
    if whole.cells.count > 1:
        title = f"{title} · cells of {' × '.join(map(str, whole.cells.side))}"

    figures: dict[str, Any] = {
        "n_train": len(data.split.train),
        "n_test": len(data.split.test),
        "channels": sum(plan.backbone.channels),
        "cells": whole.cells.count,
        "times": [
            {"time": time, **scores.over_norms(plan.indices(time), plan.norms, end)}
            for time, end in zip(plan.times, ends, strict=True)
        ],
    }
    clouds = [scores.cloud(norm) for norm in plan.pictures.norms]
    figures["pictures"] = {
        "time": plan.pictures.time,
        "position_auroc": [{"norm": points.norm, **points.aurocs} for points in clouds],
    }
    figures["seconds"] = time.perf_counter() - started
    at_time = f"{title} · t = {plan.pictures.time:g}"
    save_curve(folder / "curve.png", title, plan.norms, figures["times"])
    save_histograms(folder / "histograms.png", at_time, clouds)
    save_polar(folder / "polar.png", at_time, clouds, plan.seed)
    return figures


def halves_of(batch: dict[str, Any]) -> list[dict[str, Any]]:
    """Split the tensors of a batch into images with an even index and the others."""
    odd = batch["index"] % 2 == 1
    tensors = {name: value for name, value in batch.items() if isinstance(value, Tensor)}
    halves: list[dict[str, Any]] = [
        {name: value[own] for name, value in tensors.items()} for own in (~odd, odd)
    ]
    if "levels" in batch:
        for half, own in zip(halves, (~odd, odd), strict=True):
            half["levels"] = [level[own] for level in batch["levels"]]
    return halves


def domain_ends(
    plan: NormStudy, data: AnomalyDataModule, halves: Sequence[LocalMoments]
) -> list[float]:
    """norm* of each time; each half of the training images is held out from the other's Σ."""
    models = [
        NormMaps(other, plan.backbone.channels, plan.flow_times).to(plan.device)
        for other in reversed(halves)
    ]
    means = torch.stack([model.means for model in models]).mean(dim=0)
    maps, boxes = [], []
    for batch in data.setup_dataloader():
        for model, own in zip(models, halves_of(batch), strict=True):
            maps += [torch.stack(model(piece)).cpu() for piece in pieces(plan.levels(own))]
            boxes += [own["box"]] if "box" in own else []
    inside = torch.cat(boxes) if boxes else None
    spread, constant = torch.cat(maps, dim=2)  # [T, N, H, W] each

    def end_at(indices: list[int], norm: float) -> float:
        parts = integrated(spread[indices], constant[indices], means[:, indices], norm)
        framed = (plan.postprocess.framed(each, data.preprocessing.size, inside) for each in parts)
        return domain_end(*(scores for _, scores in framed))

    every = [partial(end_at, plan.indices(time)) for time in plan.times]
    return [
        settled_end(end) if isinstance(time, str) else end(0.0)
        for time, end in zip(plan.times, every, strict=True)
    ]


def score_test_images(
    plan: NormStudy, data: AnomalyDataModule, moments: LocalMoments
) -> NormScores:
    """All maps of the test images, from one pass over their features."""
    channels = plan.backbone.channels
    expected = NormMaps(moments, channels, plan.flow_times).to(plan.device)
    one_draw = DrawnMaps(moments, channels, plan.pictures.time, plan.seed)
    one_draw = one_draw.to(plan.device)
    maps, labels, masks = [], [], []
    for batch in data.test_dataloader():
        for piece in pieces(plan.levels(batch)):
            maps.append([x.cpu() for x in (*expected(piece), one_draw(piece))])
        labels.append(batch["label"])
        masks += [batch["mask"]] if "mask" in batch else []
    spread, constant, drawn = (torch.cat(part, dim=1) for part in zip(*maps, strict=True))
    every_mask = torch.cat(masks) if masks else None
    return NormScores(
        spread,
        constant,
        expected.means,
        drawn,
        torch.cat(labels),
        every_mask,
        plan.postprocess,
        data.preprocessing.size,
        data.test_images.boxes,
    )


def grid_rows(task: str, norms: Sequence[float], figures: dict[str, Any]) -> list[dict[str, Any]]:
    """The rows of ``norm_study.csv`` of one task."""
    return [
        {
            "task": task,
            "time": grid["time"],
            "norm": norm,
            **{name: grid[name][index] for name in grid if name.endswith("_auroc")},
            "in_domain": norm <= grid["domain"]["end"],
        }
        for grid in figures["times"]
        for index, norm in enumerate(norms)
    ]
