"""What the benchmark measures: whole runs, scoring, and the parts of the pass."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning import seed_everything
from omegaconf import DictConfig
from PIL import Image
from torch import Tensor, nn

from occ_lab.config.composition import composed
from occ_lab.data.datamodule import AnomalyDataModule
from occ_lab.data.generated import made_image
from occ_lab.data.images import read_image
from occ_lab.data.images_dataset import TaskImages
from occ_lab.detector import Detector
from occ_lab.engine.fit import fit, make_detector, make_trainer, use_fast_samples
from occ_lab.engine.norm_study import study
from occ_lab.engine.run import check, run
from occ_lab.features.extraction import image_batches
from occ_lab.utils.memory import peak_mb, reset_peak

CLOSED_FORM = ["loss=norm", "loss.solver=closed_form"]


@dataclass(frozen=True)
class Effort:
    """How much is measured.

    Attributes:
        repeats: of T₀ and the jobs of seconds, in turn; the least of each counts.
        seconds: how long each throughput is measured.
        images: how many at most of a throughput.
        epochs: of gradient training.
        norms: of the study.
        seeds: of the study.
        batches: images that an exported detector takes at once.
    """

    repeats: int = 2
    seconds: float = 10.0
    images: int = 64
    epochs: int = 30
    norms: tuple[float, ...] = (1, 2, 4, 8)
    seeds: tuple[int, ...] = (0, 1, 2)
    batches: tuple[int, ...] = (1, 8)


QUICK = Effort(repeats=1, seconds=0.1, images=4, epochs=1, norms=(1,), seeds=(0, 1), batches=(2,))


@dataclass(frozen=True)
class Cost:
    """Wall time in seconds, and the most memory held meanwhile in MB."""

    seconds: float
    peak_mb: float | None


# Jobs against T₀


def measure_jobs(dataset: list[str], effort: Effort, work: Path) -> dict[str, Any]:
    """Whole runs over T₀, the one pass that none can do without.

    Short ones are repeated in turn with T₀ and the least of each counts, so that whatever else
    the machine does weighs on both. What takes most memory comes last: a process that keeps what
    it has freed shows it as held from then on.
    """
    one_pass(dataset)  # warms up files, memory and kernels
    with caches(work) as cache:
        job([*dataset, *CLOSED_FORM, cache], work)
    measured: dict[str, list[Cost]] = {}

    def keep(name: str, cost: Cost) -> None:
        measured.setdefault(name, []).append(cost)

    for _ in range(effort.repeats):
        keep("T₀", one_pass(dataset))
        with caches(work) as cache:
            keep("closed form, cold", job([*dataset, *CLOSED_FORM, cache], work))
            keep("closed form, warm", job([*dataset, *CLOSED_FORM, cache], work))
        keep("T₀", one_pass(dataset))
        with caches(work) as cache:
            grid = [
                f"loss.norm={norm} seed={seed}" for norm in effort.norms for seed in effort.seeds
            ]
            runs = [job([*dataset, *CLOSED_FORM, cache, *each.split()], work) for each in grid]
            keep(f"{len(runs)} closed forms, cold", total(runs))
        with caches(work) as cache:
            keep(
                f"norm study, {len(effort.norms)} norms, cold",
                studied(dataset, effort, work, cache),
            )
    with caches(work) as cache:
        gradient = [*dataset, "loss=norm", f"loss.fit.epochs={effort.epochs}", cache]
        keep(f"{effort.epochs} epochs, cold", job(gradient, work))
        keep(f"{effort.epochs} epochs, warm", job(gradient, work))
    least = {name: min(costs, key=lambda cost: cost.seconds) for name, costs in measured.items()}
    return {
        name: {
            "seconds": cost.seconds,
            "over_t0": cost.seconds / least["T₀"].seconds,
            "peak_memory_mb": cost.peak_mb,
        }
        for name, cost in least.items()
    }


def one_pass(dataset: list[str]) -> Cost:
    """T₀: decode every image once and put it through the backbone; nothing else.

    Images that several tasks share count once.
    """
    cfg = composed("train", dataset)
    parts = check(cfg)
    device = make_trainer(cfg, [], epochs=1).strategy.root_device
    parts.backbone.to(device)
    splits, seen = [], set()
    for task in parts.benchmark.tasks():
        split = parts.benchmark.split(task)
        for items in (split.train, split.test):
            new = [item for item in items if item.key not in seen]
            seen |= {item.key for item in new}
            splits.append(TaskImages(parts.benchmark, new, masks=False))
    reset_peak()
    started = time.perf_counter()
    with torch.inference_mode():
        for images in splits:
            for image in image_batches(
                images, device, cfg.loader.eval_batch_size, cfg.loader.workers
            ):
                parts.backbone(image)
    finish_work()
    return Cost(time.perf_counter() - started, peak_mb())


def job(overrides: list[str], work: Path) -> Cost:
    """A whole run, from its configuration to its pictures."""
    cfg = composed("train", overrides)
    with tempfile.TemporaryDirectory(dir=work) as folder:
        started = time.perf_counter()
        figures = run(cfg, Path(folder))
        seconds = time.perf_counter() - started
    return Cost(seconds, most(task["peak_memory_mb"] for task in figures.values()))


def studied(dataset: list[str], effort: Effort, work: Path, cache: str) -> Cost:
    """The norms of the closed forms in one study, with its pictures."""
    cfg = composed("norm_study", [*dataset, f"norms={list(effort.norms)}", "times=[10]", cache])
    reset_peak()
    with tempfile.TemporaryDirectory(dir=work) as folder:
        started = time.perf_counter()
        study(cfg, Path(folder))
        return Cost(time.perf_counter() - started, peak_mb())


@contextmanager
def caches(work: Path) -> Iterator[str]:
    """An empty cache, as an override."""
    work.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=work) as folder:
        yield f"cache.dir='{folder}'"


def total(costs: Sequence[Cost]) -> Cost:
    """Of several jobs one after another."""
    return Cost(sum(cost.seconds for cost in costs), most(cost.peak_mb for cost in costs))


def most(peaks: Iterator[float | None]) -> float | None:
    """The highest peak; None where the system does not tell."""
    return max((peak for peak in peaks if peak is not None), default=None)


# Scoring


def measure_scoring(dataset: list[str], effort: Effort, work: Path) -> dict[str, Any]:
    """Images a second of the backbone alone, and of backbone, projector, score and map.

    The images lie decoded in memory; the two are timed in turn, batch by batch.
    """
    with caches(work) as cache:
        closed_form = measure_detector([*dataset, *CLOSED_FORM, cache], effort)
        gradient = measure_detector([*dataset, "loss=norm", "loss.fit.epochs=1", cache], effort)
    return {"closed form": closed_form, "gradient": gradient}


def measure_detector(overrides: list[str], effort: Effort) -> dict[str, float | None]:
    """Throughput of a detector that is fitted to the first task."""
    detector, image = fitted(composed("train", overrides), effort.images)

    def backbone() -> None:
        detector.backbone(image)

    with torch.inference_mode():
        reset_peak()
        alone, whole = least_seconds(
            [backbone, lambda: detector.image_scores(image)], effort.seconds
        )
    return {
        "backbone_images_per_second": len(image) / alone,
        "images_per_second": len(image) / whole,
        "share_of_backbone": alone / whole,
        "peak_memory_mb": peak_mb(),
    }


def fitted(cfg: DictConfig, count: int) -> tuple[Detector, Tensor]:
    """A detector fitted to the first task, and a batch of its test images, on one device."""
    parts = check(cfg)
    data = AnomalyDataModule(parts.benchmark, parts.benchmark.tasks()[0], cfg.loss.fit.batch_size)
    trainer = make_trainer(cfg, [], 1 if parts.one_pass else cfg.trainer.max_epochs)
    device = trainer.strategy.root_device
    use_fast_samples(data, parts, device)
    seed_everything(cfg.seed, verbose=False)
    detector = make_detector(cfg, parts, parts.benchmark)
    fit(trainer, detector, data, oracle=False)
    size = min(count, cfg.loader.eval_batch_size)
    image = next(image_batches(data.test_images, device, size))
    return detector.to(device).eval(), image


# Parts of the pass


def measure_pass(dataset: list[str], effort: Effort, work: Path) -> dict[str, float]:
    """Milliseconds an image of each part of the pass, and of the whole pass.

    The parts of reading are timed in one thread; the pass itself reads in as many as there are.
    """
    cfg = composed("train", dataset)
    parts = check(cfg)
    device = make_trainer(cfg, [], epochs=1).strategy.root_device
    backbone = parts.backbone.to(device)
    split = parts.benchmark.split(parts.benchmark.tasks()[0]).train[: effort.images]
    images = TaskImages(parts.benchmark, split, masks=False)
    size = cfg.loader.eval_batch_size
    decoded = [read_image(item.path) for item in split]
    ready = list(image_batches(images, device, size))

    def through(backbone: nn.Module, batches: Iterator[Tensor] | list[Tensor]) -> None:
        for image in batches:
            backbone(image)

    steps: dict[str, Callable[[], object]] = {
        "decode": lambda: [read_image(item.path) for item in split],
        "resize": lambda: [images.still(image=pixels) for pixels in decoded],
        "read, by threads": lambda: list(image_batches(images, device, size)),
        "backbone": lambda: through(backbone, ready),
        "pass": lambda: through(backbone, image_batches(images, device, size)),
    }
    with torch.inference_mode():
        seconds = least_seconds(list(steps.values()), effort.seconds)
    return {name: 1000 * least / len(split) for name, least in zip(steps, seconds, strict=True)}


def large_images(folder: Path, suffix: str, count: int) -> list[str]:
    """Smooth shapes and fine grain, 1024 px a side, in MVTec AD's layout, as a configuration."""
    generator = np.random.default_rng(0)
    for place in range(count):
        pixels = made_image(generator, 1024, 1024, cells=32, levels=(60, 200), grain=3)
        path = folder / "part" / "train" / "good" / f"{place:03d}.{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    return ["dataset=mvtec", f"dataset.root='{folder}'"]


# Timing


def least_seconds(steps: Sequence[Callable[[], object]], seconds: float) -> list[float]:
    """The least time of each step; all are done in turn until ``seconds`` a step are over."""
    least = [float("inf")] * len(steps)
    for step in steps:
        step()
    finish_work()
    end = time.perf_counter() + seconds * len(steps)
    while time.perf_counter() < end or float("inf") in least:
        for place, step in enumerate(steps):
            started = time.perf_counter()
            step()
            finish_work()
            least[place] = min(least[place], time.perf_counter() - started)
    return least


def finish_work() -> None:
    """Wait until an accelerator has done what it was given."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
