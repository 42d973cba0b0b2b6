"""The measurements of the benchmark: whole runs, scoring, and the parts of the pass."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from occ_lab.config.composition import composed
from occ_lab.config.job import make_job
from occ_lab.config.norm_study import perform_study
from occ_lab.config.sweeps import SHARED_MB
from occ_lab.config.train import perform_run
from occ_lab.data.generated import made_image
from occ_lab.data.images import read_image
from occ_lab.data.images_dataset import TaskImages
from occ_lab.data.pixel_batches import image_batches
from occ_lab.data.transforms import Preprocessing
from occ_lab.detector import Detector
from occ_lab.engine.job import Job
from occ_lab.engine.single_fit import fit_without
from occ_lab.utils.memo import Memo
from occ_lab.utils.memory import peak_mb, reset_peak

SOLVED = ["loss=norm", "loss.solver=closed_form"]
CLOSED_FORM = [*SOLVED, "loss.cell=null", "loss.bias=flow", "loss.time=auto"]  # one projector
LOCAL = [*SOLVED, "loss.cell=4", "loss.bias=solved", "loss.time=integrated"]


@dataclass(frozen=True)
class Effort:
    """The extent of the measurements.

    Attributes:
        repeats: how often T₀ and the short runs are measured in turn; the minimum counts.
        seconds: the duration of each throughput measurement.
        images: the largest number of images for a throughput measurement.
        epochs: the epochs of gradient training.
        norms: the norms of the study.
        seeds: the seeds of the study.
        batches: the batch sizes of exported detectors.
        backbone: overrides that choose the network; by default that of the commands.
    """

    repeats: int = 2
    seconds: float = 10.0
    images: int = 64
    epochs: int = 30
    norms: tuple[float, ...] = (1, 2, 4, 8)
    seeds: tuple[int, ...] = (0, 1, 2)
    batches: tuple[int, ...] = (1, 8)
    backbone: tuple[str, ...] = ()


QUICK = Effort(
    repeats=1,
    seconds=0.1,
    images=4,
    epochs=1,
    norms=(1,),
    seeds=(0, 1),
    batches=(2,),
    backbone=(
        *("backbone=resnet18", "backbone.model=test_resnet", "backbone.weights=random"),
        "backbone.strides=[4,8]",
    ),
)


@dataclass(frozen=True)
class Cost:
    """Wall time in seconds, and the peak memory during it in MB."""

    seconds: float
    peak_mb: float | None


# Whole runs relative to T₀


def measure_jobs(dataset: list[str], effort: Effort, work: Path) -> dict[str, Any]:
    """Whole runs relative to T₀, the one pass that every run needs.

    Short runs are repeated in turn with T₀ and the minimum of each counts, so that other work on
    the machine affects both alike. The jobs with the highest memory come last, because a process
    that keeps freed memory shows it as used from then on.
    """
    one_pass(dataset)  # warms up files, memory and kernels
    with caches(work) as cache:
        timed_run([*dataset, *CLOSED_FORM, cache], work)
    measured: dict[str, list[Cost]] = {}

    def keep(name: str, cost: Cost) -> None:
        measured.setdefault(name, []).append(cost)

    for _ in range(effort.repeats):
        keep("T₀", one_pass(dataset))
        with caches(work) as cache:
            keep("closed form, cold", timed_run([*dataset, *CLOSED_FORM, cache], work))
            keep("closed form, warm", timed_run([*dataset, *CLOSED_FORM, cache], work))
        with caches(work) as cache:
            keep("local form, cold", timed_run([*dataset, *LOCAL, cache], work))
            keep("local form, warm", timed_run([*dataset, *LOCAL, cache], work))
        keep("T₀", one_pass(dataset))
        for name, form in {"closed forms": CLOSED_FORM, "local forms": LOCAL}.items():
            runs = swept([*dataset, *form], effort, work)
            keep(f"{len(runs)} {name}, cold", total(runs))
        with caches(work) as cache:
            keep(
                f"norm study, {len(effort.norms)} norms, cold",
                studied(dataset, effort, work, cache),
            )
    with caches(work) as cache:
        gradient = [*dataset, "loss=norm", f"loss.fit.epochs={effort.epochs}", cache]
        keep(f"{effort.epochs} epochs, cold", timed_run(gradient, work))
        keep(f"{effort.epochs} epochs, warm", timed_run(gradient, work))
    fastest = {name: least(costs) for name, costs in measured.items()}
    return {
        name: {
            "seconds": cost.seconds,
            "over_t0": cost.seconds / fastest["T₀"].seconds,
            "peak_memory_mb": cost.peak_mb,
        }
        for name, cost in fastest.items()
    }


def least(costs: Iterable[Cost]) -> Cost:
    """The cost with the shortest time."""
    return min(costs, key=lambda cost: cost.seconds)


def one_pass(dataset: list[str]) -> Cost:
    """T₀: every image is decoded once and passes through the backbone once.

    Images that several tasks share count once.
    """
    job = job_of(dataset)
    device = device_of(job)
    backbone = job.backbone.to(device)
    splits, seen = [], set()
    for task in job.benchmark.tasks():
        split = job.benchmark.split(task)
        for items in (split.train, split.test):
            new = [item for item in items if item.key not in seen]
            seen |= {item.key for item in new}
            splits.append(TaskImages(job.benchmark, new, masks=False))
    reset_peak()
    started = time.perf_counter()
    with torch.inference_mode():
        for images in splits:
            for image in image_batches(images, device, job.eval_batch_size, job.workers):
                backbone(image)
    finish_work()
    return Cost(time.perf_counter() - started, peak_mb())


def job_of(overrides: list[str]) -> Job:
    """The job of ``occ_lab.train`` with these overrides."""
    return make_job(composed("train", overrides))


def device_of(job: Job) -> torch.device:
    """The device that a run computes on."""
    return job.trainer([], [], 1).strategy.root_device


def timed_run(overrides: list[str], work: Path, shared: Memo | None = None) -> Cost:
    """The cost of a whole run, from its configuration to its pictures.

    Args:
        overrides: its configuration.
        work: the folder for its directory, which is removed.
        shared: what it shares with the other jobs of a sweep.
    """
    cfg = composed("train", overrides)
    with tempfile.TemporaryDirectory(dir=work) as folder:
        started = time.perf_counter()
        tasks = perform_run(cfg, Path(folder), shared=shared)
        seconds = time.perf_counter() - started
    return Cost(seconds, most(task["peak_memory_mb"] for task in tasks.values()))


def swept(overrides: list[str], effort: Effort, work: Path) -> list[Cost]:
    """The costs of the jobs of a sweep over norms and seeds, in one process and a new cache."""
    shared = Memo(SHARED_MB)
    with caches(work) as cache:
        return [
            timed_run([*overrides, cache, f"loss.norm={norm}", f"seed={seed}"], work, shared)
            for norm in effort.norms
            for seed in effort.seeds
        ]


def studied(dataset: list[str], effort: Effort, work: Path, cache: str) -> Cost:
    """The cost of one norm study over the norms of the closed forms, with its plots."""
    cfg = composed("norm_study", [*dataset, f"norms={list(effort.norms)}", "times=[10]", cache])
    reset_peak()
    with tempfile.TemporaryDirectory(dir=work) as folder:
        started = time.perf_counter()
        perform_study(cfg, Path(folder))
        return Cost(time.perf_counter() - started, peak_mb())


@contextmanager
def caches(work: Path) -> Iterator[str]:
    """An override that selects an empty cache."""
    work.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=work) as folder:
        yield f"cache.dir='{folder}'"


def total(costs: Sequence[Cost]) -> Cost:
    """The cost of several runs one after another."""
    return Cost(sum(cost.seconds for cost in costs), most(cost.peak_mb for cost in costs))


def most(peaks: Iterator[float | None]) -> float | None:
    """The highest peak; None if the system does not report any."""
    return max((peak for peak in peaks if peak is not None), default=None)


# Scoring


def measure_scoring(dataset: list[str], effort: Effort, work: Path) -> dict[str, Any]:
    """Images per second of the backbone alone, and of backbone, projector, score and map.

    The images are decoded in memory; the two are timed in turn, batch by batch.
    """
    with caches(work) as cache:
        closed_form = measure_detector([*dataset, *CLOSED_FORM, cache], effort)
        local = measure_detector([*dataset, *LOCAL, cache], effort)
        gradient = measure_detector([*dataset, "loss=norm", "loss.fit.epochs=1", cache], effort)
    return {"closed form": closed_form, "local form": local, "gradient": gradient}


def measure_detector(overrides: list[str], effort: Effort) -> dict[str, float | None]:
    """The throughput of a detector fitted to the first task."""
    detector, image = fitted(overrides, effort.images)

    def backbone() -> None:
        detector.backbone(image)

    with torch.inference_mode():
        reset_peak()
        alone, whole = least_seconds([backbone, lambda: detector(image)], effort.seconds)
    return {
        "backbone_images_per_second": len(image) / alone,
        "images_per_second": len(image) / whole,
        "share_of_backbone": alone / whole,
        "peak_memory_mb": peak_mb(),
    }


def fitted(overrides: list[str], count: int) -> tuple[Detector, Tensor]:
    """A detector fitted to the first task, and a batch of its test images, on one device."""
    job = job_of(overrides)
    member = fit_without([], job, job.benchmark, job.benchmark.tasks()[0])
    device = member.trainer.strategy.root_device
    image = next(image_batches(member.data.test_images, device, min(count, job.eval_batch_size)))
    return member.detector.to(device).eval(), image


# Parts of the pass


def measure_pass(dataset: list[str], effort: Effort, work: Path) -> dict[str, float]:
    """Milliseconds per image of each part of the pass, and of the whole pass.

    The parts of reading are timed in one thread; the pass itself reads with all threads.
    """
    job = job_of(dataset)
    device = device_of(job)
    backbone = job.backbone.to(device)
    split = job.benchmark.split(job.benchmark.tasks()[0]).train[: effort.images]
    images = TaskImages(job.benchmark, split, masks=False)
    frame = Preprocessing(job.benchmark.resize, job.benchmark.crop)
    size = job.eval_batch_size
    decoded = [read_image(item.path) for item in split]
    ready = list(image_batches(images, device, size))

    def through(backbone: nn.Module, batches: Iterator[Tensor] | list[Tensor]) -> None:
        for image in batches:
            backbone(image)

    steps: dict[str, Callable[[], object]] = {
        "decode": lambda: [read_image(item.path) for item in split],
        "resize": lambda: [frame(pixels) for pixels in decoded],
        "read, by threads": lambda: list(image_batches(images, device, size)),
        "backbone": lambda: through(backbone, ready),
        "pass": lambda: through(backbone, image_batches(images, device, size)),
    }
    with torch.inference_mode():
        seconds = least_seconds(list(steps.values()), effort.seconds)
    return {name: 1000 * least / len(split) for name, least in zip(steps, seconds, strict=True)}


def large_images(folder: Path, suffix: str, count: int) -> list[str]:
    """Overrides for images of 1024 px a side, with shapes and grain, in MVTec AD's layout."""
    generator = np.random.default_rng(0)
    for index in range(count):
        pixels = made_image(generator, 1024, 1024, cells=32, levels=(60, 200), grain=3)
        path = folder / "part" / "train" / "good" / f"{index:03d}.{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    return ["dataset=mvtec", f"dataset.root='{folder}'"]


# Timing


def least_seconds(steps: Sequence[Callable[[], object]], seconds: float) -> list[float]:
    """The minimum time of each step; they take turns until ``seconds`` have passed for each."""
    least = [float("inf")] * len(steps)
    for step in steps:
        step()
    finish_work()
    end = time.perf_counter() + seconds * len(steps)
    while time.perf_counter() < end or float("inf") in least:
        for index, step in enumerate(steps):
            started = time.perf_counter()
            step()
            finish_work()
            least[index] = min(least[index], time.perf_counter() - started)
    return least


def finish_work() -> None:
    """Wait until an accelerator has finished its work."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
