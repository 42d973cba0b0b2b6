"""How fast a device works: the extraction, a whole job, scoring, and an epoch of CFA."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from torch import Tensor

import occ_lab
from benchmarks.whole_runs import least_seconds
from experiments.gpu.decoding import Decoded
from experiments.gpu.setting import Figures, Setting, trainer_on, wait
from occ_lab.config.composition import composed
from occ_lab.config.train import perform_run
from occ_lab.data.datamodule import AnomalyDataModule
from occ_lab.data.images_dataset import TaskImages
from occ_lab.data.pixel_batches import read_by_processes, read_by_threads
from occ_lab.features.cache import FeatureCache
from occ_lab.features.extraction import batch_size_on, cached_features
from occ_lab.objectives import CFA, Norm

GOALS = {"extraction": 0.85, "job": 1.3, "scoring": 0.9, "cfa": 1.2}
CFA_IMAGES, CFA_BATCH = 512, 16
ROWS = 2**14  # positions in one of the plain products of CFA


def measure_extraction(setting: Setting, precision: str) -> Figures:
    """Images per second of the bare backbone from JPEG files and from memory, and of the pass.

    The bare backbone reads by a DataLoader with a process for each core and pinned memory, which
    have started when the clock does, and discards the features. The pass of the project starts its
    own readers, copies the features back, and stores them in the cache with their checksums. What
    reads its images is timed alone, too.
    """
    effort, device = setting.effort, setting.device
    benchmark = setting.benchmark()
    split = benchmark.split("part")
    items = [*split.train, *split.test]
    backbone = setting.backbone(precision).to(device)

    def network(pixels: Tensor) -> None:
        backbone(pixels.to(device, non_blocking=True).permute(0, 3, 1, 2).float() / 255)

    bares = []
    loader = setting.bare_loader
    batch = loader.batch_size or 1
    with torch.inference_mode():
        for _ in range(effort.repeats + 1):
            started = time.perf_counter()
            for pixels in loader:
                network(pixels)
            wait(device)
            bares.append(time.perf_counter() - started)
        bare = len(items) / min(bares[1:])  # the first starts the processes and chooses kernels
        ready = torch.stack([Decoded([items[0].path])[0]] * batch).to(device)
        (from_memory,) = timed([lambda: network(ready)], setting)
    images = TaskImages(benchmark, items, masks=False, frame=benchmark.preprocessing("part"))
    size = batch_size_on(device, effort.batch, images)
    seconds: dict[str, list[float]] = {"threads": [], "processes": [], "pass": []}
    for _ in range(effort.repeats):
        for name, read in (("threads", read_by_threads), ("processes", read_by_processes)):
            started = time.perf_counter()
            for _ in read(images, size, torch.get_num_threads(), device.type == "cuda"):
                pass
            seconds[name].append(time.perf_counter() - started)
        with tempfile.TemporaryDirectory(dir=setting.work) as folder:
            started = time.perf_counter()
            cache = FeatureCache(folder)
            cached_features(cache, backbone, images, device, effort.batch, 0, "features")
            wait(device)
            seconds["pass"].append(time.perf_counter() - started)
    rates = {name: len(items) / min(times) for name, times in seconds.items()}
    ratio = rates["pass"] / bare
    return {
        "images": len(items),
        "batch_size": size,
        "bare_images_per_second": bare,
        "bare_seconds": bares,
        "from_memory_images_per_second": batch / from_memory,
        "seconds": seconds,
        "images_per_second": rates,
        "ratio": ratio,
        "goal": GOALS["extraction"],
        "agrees": ratio >= GOALS["extraction"],
    }


def measure_job(setting: Setting) -> Figures:
    """The seconds of a whole run of the closed form, cold and warm, over those of the pass alone.

    A run reads, computes, stores, fits, tests with pixel metrics, and writes its pictures.
    """
    side, device = setting.effort.side, setting.device
    benchmark = setting.benchmark()
    split = benchmark.split("part")
    overrides = [
        *setting.overrides(),
        *("dataset=mvtec", f"dataset.root='{setting.files}'", "dataset.category=part"),
        *(f"dataset.resize={side}", f"dataset.crop={side}", "backbone.precision=bfloat16"),
        *(f"trainer.accelerator={device.type}", "logger=none"),
    ]
    backbone = setting.backbone("bfloat16").to(device)
    seconds: dict[str, list[float]] = {"pass": [], "cold": [], "warm": []}
    parts: dict[str, dict[str, float]] = {}
    for _ in range(setting.effort.repeats):
        with tempfile.TemporaryDirectory(dir=setting.work) as folder:
            cache = FeatureCache(Path(folder) / "pass")
            started = time.perf_counter()
            for items in (split.train, split.test):
                images = TaskImages(benchmark, items, frame=benchmark.preprocessing("part"))
                cached_features(cache, backbone, images, device, 32, 0, "features")
            wait(device)
            seconds["pass"].append(time.perf_counter() - started)
            for name in ("cold", "warm"):
                cfg = composed("train", [*overrides, f"cache.dir='{folder}/job'"])
                started = time.perf_counter()
                tasks = perform_run(cfg, Path(folder) / name)
                seconds[name].append(time.perf_counter() - started)
                parts[name] = tasks["part"]["seconds"]
    least = {name: min(values) for name, values in seconds.items()}
    ratio = least["cold"] / least["pass"]
    return {
        "images": len(split.train) + len(split.test),
        "seconds": least,
        "parts": parts,
        "ratio": ratio,
        "warm_ratio": least["warm"] / least["pass"],
        "goal": GOALS["job"],
        "agrees": ratio <= GOALS["job"],
    }


def measure_scoring(setting: Setting) -> Figures:
    """Images per second of the whole detector over those of its backbone, from memory."""
    device = setting.device
    found = occ_lab.fit(
        setting.photographs(),
        Norm(),
        setting.backbone(),
        cache=setting.cache,
        trainer=trainer_on(device),
    )
    detector = found.detector.to(device).eval()
    side = setting.effort.side
    image = torch.rand(setting.effort.batch, 3, side, side, device=device)
    with torch.inference_mode():
        steps = [lambda: detector.backbone(image), lambda: detector(image)]
        alone, whole = timed(steps, setting)
    return {
        "backbone_images_per_second": len(image) / alone,
        "images_per_second": len(image) / whole,
        "ratio": alone / whole,
        "goal": GOALS["scoring"],
        "agrees": alone / whole >= GOALS["scoring"],
    }


class Epochs(Callback):
    """Measures the duration of every epoch."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.seconds: list[float] = []

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock."""
        wait(self.device)
        self.started = time.perf_counter()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop the clock when the device has finished."""
        wait(self.device)
        self.seconds.append(time.perf_counter() - self.started)


def measure_cfa(setting: Setting) -> Figures:
    """The seconds of an epoch of CFA from cached features, over those of its matrix products.

    The products are those of the projection of each level and its gradient, and of the features
    with all centres of the memory bank, in float32 from tensors that are on the device.
    """
    device = setting.device
    benchmark = setting.benchmark()
    benchmark.train_limit = min(CFA_IMAGES, setting.effort.files[0])
    data = AnomalyDataModule(benchmark, "part", batch_size=min(CFA_BATCH, benchmark.train_limit))
    clock = Epochs(device)

    def make(loggers: object, callbacks: list[Callback], epochs: int) -> Trainer:
        return trainer_on(device)([], [*callbacks, clock], epochs)

    found = occ_lab.fit(
        data,
        CFA(),
        setting.backbone(),
        max_epochs=3,
        cache=FeatureCache(setting.work / "cfa"),
        trainer=make,
    )
    detector = found.detector
    sizes = [
        tuple(level.shape) for level in detector.levels(one_batch(setting, data, detector.device))
    ]
    bank = tuple(detector.objective.bank.shape)  # type: ignore[arg-type]
    (step,) = timed([products(sizes, bank, device)], setting)
    steps = -(-len(data.train_images) // data.batch_size)
    ratio = min(clock.seconds) / (step * steps)
    return {
        "images": len(data.train_images),
        "batch_size": data.batch_size,
        "bank": list(bank),
        "epoch_seconds": clock.seconds,
        "products_seconds": step * steps,
        "ratio": ratio,
        "goal": GOALS["cfa"],
        "agrees": ratio <= GOALS["cfa"],
    }


def one_batch(setting: Setting, data: AnomalyDataModule, device: torch.device) -> dict[str, Tensor]:
    """As many images as are in a training batch."""
    side = setting.effort.side
    return {"image": torch.rand(data.batch_size, 3, side, side, device=device)}


def products(
    sizes: list[tuple[int, ...]], bank: tuple[int, int], device: torch.device
) -> Callable[[], None]:
    """The matrix products of a step: of levels ``[B, C_l, H_l, W_l]`` and a bank ``[M, C]``."""
    centres = torch.rand(*bank, device=device)
    levels = [torch.rand(b * h * w, c, device=device) for b, c, h, w in sizes]
    weights = [torch.rand(size[1], bank[1], device=device) for size in sizes]
    z = torch.rand(len(levels[0]), bank[1], device=device)
    slopes = [z[: len(level)] for level in levels]

    def step() -> None:
        for level, weight, slope in zip(levels, weights, slopes, strict=True):
            level @ weight
            level.T @ slope
        for part in torch.split(z, ROWS):
            part @ centres.T

    return step


def timed(steps: list[Callable[[], object]], setting: Setting) -> list[float]:
    """The minimum seconds of each step; they take turns."""

    def waiting(step: Callable[[], object]) -> Callable[[], None]:
        def both() -> None:
            step()
            wait(setting.device)

        return both

    return least_seconds([waiting(step) for step in steps], setting.effort.seconds)
