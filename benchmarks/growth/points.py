"""What is measured at one size: time and memory of one piece of work, in a process of its own."""

from __future__ import annotations

import gc
import io
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.growth.made import MadeImages
from benchmarks.whole_runs import LOCAL
from occ_lab.backbones.timm import TimmBackbone
from occ_lab.config.composition import composed
from occ_lab.config.job import make_job
from occ_lab.config.sweeps import SHARED_MB
from occ_lab.detector import Detector
from occ_lab.engine.job import NoWatcher
from occ_lab.engine.online import Online
from occ_lab.engine.run import run
from occ_lab.metrics import pixel_store
from occ_lab.metrics.pixel import PixelMetrics
from occ_lab.objectives.base import Objective
from occ_lab.objectives.norm.objective import Norm
from occ_lab.reporting.record import RunRecord
from occ_lab.utils.memo import Memo
from occ_lab.utils.memory import peak_mb, reset_peak

Figures = dict[str, float]
SIDE = 32  # pixels; the backbone matters little here
BATCH = 4  # images of noise at a time
BACKBONE = ["backbone.model=resnet10t", "backbone.weights=random", "backbone.strides=[4,8]"]
QUIET = ["logger=none", "maps=0", "gallery=false", "callbacks.progress_bar=null"]


def measured(work: Callable[[], object], warm: Callable[[], object] = int) -> Figures:
    """The cost of some work after a small piece of the same kind.

    Returns:
        ``seconds`` of the processor and ``wall_seconds`` without the small piece; the peak of the
        memory since before it, ``peak_mb``, and ``mapped_mb`` of files in memory after the work.
    """
    gc.collect()
    reset_peak()
    before, mapped = peak_mb() or 0.0, mapped_mb()
    warm()
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return {
        "seconds": time.process_time() - cpu,
        "wall_seconds": time.perf_counter() - wall,
        "peak_mb": (peak_mb() or 0.0) - before,
        "mapped_mb": mapped_mb() - mapped,
    }


def mapped_mb() -> float:
    """The part of files, such as cached features, that is mapped into the memory."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssFile:"):
            return int(line.split()[1]) * 1024 / 1e6
    return 0.0


# Whole runs


@contextmanager
def folder() -> Iterator[Path]:
    """A temporary folder."""
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


def run_of(
    images: MadeImages, where: Path, overrides: Sequence[str], shared: Memo | None = None
) -> None:
    """Fit and test a detector for every task, and write the run directory."""
    cfg = composed("train", [*BACKBONE, *QUIET, *overrides])
    job = make_job(cfg, [images], shared)
    about = {"loss": "", "dataset": "", "backbone": "", "seed": 0}
    with redirect_stdout(io.StringIO()):
        run(job, RunRecord(where, about, {}), NoWatcher())


def whole(
    train: int,
    test: int,
    overrides: Sequence[str],
    side: int = SIDE,
    tasks: int = 1,
    tile: int | None = None,
    cached: bool = False,
) -> Figures:
    """The cost of a whole run."""
    with folder() as work:
        cache = work / "cache"
        asked = [*overrides, f"cache.enabled={str(cached).lower()}", f"cache.dir='{cache}'"]
        images = MadeImages(work / "images", train, test, side, tasks, tile=tile)
        small = MadeImages(work / "small", 4, 4, min(side, 256), tile=tile)
        found = measured(
            lambda: run_of(images, work / "run", asked),
            lambda: run_of(small, work / "warm", asked),
        )
        files = list(cache.rglob("level*.npy")) if cached else []
        return found | ({"disk_mb": sum(f.stat().st_size for f in files) / 1e6} if cached else {})


def over_train(overrides: Sequence[str]) -> Callable[[int], Figures]:
    """Measures runs over the number of training images."""
    return lambda images: whole(images, 8, overrides)


@contextmanager
def smaller_limits() -> Iterator[None]:
    """Limits of pixel metrics for images of 32 px that stand for those of 224 px."""
    kept, factor = (pixel_store.EXACT_BYTES, pixel_store.ENTRIES), (224 // SIDE) ** 2
    pixel_store.EXACT_BYTES, pixel_store.ENTRIES = (limit // factor for limit in kept)
    try:
        yield
    finally:
        pixel_store.EXACT_BYTES, pixel_store.ENTRIES = kept


def over_test(overrides: Sequence[str]) -> Callable[[int], Figures]:
    """Measures runs over the number of test images."""

    def measure(images: int) -> Figures:
        with smaller_limits():
            return whole(16, images, overrides)

    return measure


def train_and_test(images: int, cached: bool = False) -> Figures:
    """The default detector, half of the images for training and half for the test."""
    with smaller_limits():
        return whole(images // 2, images // 2, LOCAL, cached=cached)


def sweep(jobs: int) -> Figures:
    """Jobs of a sweep in one process, which differ in the length of the flow."""
    with folder() as work:
        images = MadeImages(work / "images", 128, 64, SIDE)
        small = MadeImages(work / "small", 4, 4, SIDE)
        cache = f"cache.dir='{work / 'cache'}'"

        def swept() -> None:
            shared = Memo(SHARED_MB)
            for number in range(jobs):
                time = f"loss.time={1 + number}"
                run_of(images, work / f"{number}", ["loss=norm", time, cache], shared)

        return measured(swept, lambda: run_of(small, work / "warm", [cache]))


# Parts, on noise


def noise(channels: int, side: int, seed: int = 0, batch: int = BATCH) -> list[Tensor]:
    """Two levels with this many channels together; a quarter is in the finer one."""
    generator = torch.Generator().manual_seed(seed)
    fine = max(1, channels // 4)
    shapes = [(batch, fine, side, side), (batch, channels - fine, side // 2, side // 2)]
    return [torch.randn(shape, generator=generator) for shape in shapes]


def solved(make: Callable[[], Objective], channels: int, side: int, batches: int = 2) -> Figures:
    """One pass of an objective over noise, its solution, and the scores of a batch."""

    def work(channels: int) -> None:
        objective = make()
        levels = noise(channels, side)
        projector = objective.default_projector([level.shape[1] for level in levels])
        for seed in range(batches):
            objective.observe(noise(channels, side, seed))
        objective.finish(projector)
        with torch.inference_mode():
            objective(projector(levels))

    return measured(lambda: work(channels), lambda: work(8))


def pixels_of_maps(images: int, side: int = 224) -> Figures:
    """Pixel metrics of maps of noise, every other one with a marked square."""

    def work(images: int) -> None:
        metric, masks = PixelMetrics(), torch.zeros(8, side, side, dtype=torch.bool)
        masks[::2, : side // 8, : side // 8] = True
        for number in range(images // 8):
            generator = torch.Generator().manual_seed(number)
            maps = torch.randn(8, side, side, generator=generator).square_().add_(5)
            metric.update(maps, masks)
        metric.compute()

    return measured(lambda: work(images), lambda: work(8))


def streamed(images: int) -> Figures:
    """A detector that learns image by image and is solved for as often as by default."""

    def work(images: int) -> None:
        backbone = TimmBackbone("resnet10t", weights="random", strides=[4, 8])
        online = Online(Detector(backbone, Norm()), refresh=0.1)
        for number in range(images):
            online.learn(noise(192, 8, number, batch=1))
            if online.due:
                online.solve()

    return measured(lambda: work(images), lambda: work(4))
