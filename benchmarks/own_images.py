"""The cost of padding, tiling and calibration for a user's own images."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from benchmarks.whole_runs import (
    Cost,
    Effort,
    caches,
    device_of,
    finish_work,
    job_of,
    least,
    timed_run,
)
from occ_lab.data.datamodule import AnomalyDataModule
from occ_lab.data.generated import made_image
from occ_lab.data.pixel_batches import image_batches
from occ_lab.utils.memory import peak_mb, reset_peak

SIDES = (480, 640)  # height and width of the images
CUT, WHOLE, TILES = "dataset.crop=224", "dataset.crop=whole", "dataset.tile=256"
ONCE, FOLDS = "calibration.folds=0", "calibration.folds=5"
RUNS = {
    "resized to a square, cropped": ("lying", [CUT, ONCE]),
    "whole": ("lying", [WHOLE, ONCE]),
    "whole, every other one padded": ("mixed", [WHOLE, ONCE]),
    "tiles of 256 px": ("lying", [TILES, ONCE]),
    "whole, five folds": ("lying", [WHOLE, FOLDS]),
    "tiles of 256 px, five folds": ("lying", [TILES, FOLDS]),
}


def measure_own_images(effort: Effort, work: Path) -> dict[str, dict[str, float | None]]:
    """Whole runs relative to a bare pass over the same pixels, from an empty cache.

    Each pass and its run are measured in turn, and the minimum of each counts.
    """
    folders = {
        shape: written(work / shape, shape, 2 * effort.images) for shape in ("lying", "mixed")
    }

    def measured(name: str) -> tuple[Cost, Cost, float]:
        shape, asked = RUNS[name]
        own = [
            *("dataset=folder", f"dataset.normal='{folders[shape]}'", "loss=norm"),
            *("maps=0", "logger=none", "moments=false", "gallery=false", *asked, *effort.backbone),
        ]
        bare, megapixels = bare_pass(own)
        with caches(work) as cache:
            return bare, timed_run([*own, cache], work), megapixels

    measured(next(iter(RUNS)))  # warms up files, memory and kernels
    found: dict[str, list[tuple[Cost, Cost, float]]] = {name: [] for name in RUNS}
    for _ in range(effort.repeats):
        for name, costs in found.items():
            costs.append(measured(name))
    return {name: figures(costs) for name, costs in found.items()}


def figures(costs: Sequence[tuple[Cost, Cost, float]]) -> dict[str, float | None]:
    """The recorded figures of passes and runs, with the megapixels that they processed."""
    passes, runs, megapixels = zip(*costs, strict=True)
    bare, run = least(passes), least(runs)
    return {
        "megapixels": megapixels[0],
        "pass_seconds": bare.seconds,
        "seconds": run.seconds,
        "over_pass": run.seconds / bare.seconds,
        "peak_memory_mb": run.peak_mb,
    }


def bare_pass(overrides: list[str]) -> tuple[Cost, float]:
    """Decode all images and pass them through the backbone, as a run with these overrides does.

    Returns:
        The cost, and the megapixels that passed through the backbone.
    """
    job = job_of(overrides)
    (task,) = job.benchmark.tasks()
    data = AnomalyDataModule(job.benchmark, task, job.batch_size, job.eval_batch_size)
    device = device_of(job)
    backbone = job.backbone.to(device)
    pixels = 0
    reset_peak()
    started = time.perf_counter()
    with torch.inference_mode():
        for images in (data.train_images.tiles(), data.test_images.tiles()):
            for image in image_batches(images, device, job.eval_batch_size, job.workers):
                backbone(image)
                pixels += image[:, 0].numel()
    finish_work()
    return Cost(time.perf_counter() - started, peak_mb()), pixels / 1e6


def written(folder: Path, shape: str, count: int) -> Path:
    """Write images of shapes and grain; in ``mixed`` folders every other one is upright."""
    generator = np.random.default_rng(0)
    folder.mkdir(parents=True)
    for index in range(count):
        pixels = made_image(generator, *SIDES, cells=16, levels=(60, 200), grain=3)
        if shape == "mixed" and index % 2:
            pixels = np.rot90(pixels)
        Image.fromarray(pixels).save(folder / f"{index:03d}.jpg", quality=95)
    return folder
