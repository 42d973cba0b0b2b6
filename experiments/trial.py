"""One fit and test of a detector, for the studies in this folder."""

from __future__ import annotations

import argparse
import csv
import gc
import json
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import CSVLogger

from benchmarks.whole_runs import job_of, least_seconds
from occ_lab.config.composition import composed
from occ_lab.config.train import perform_run
from occ_lab.data.datamodule import AnomalyDataModule
from occ_lab.data.pixel_batches import image_batches
from occ_lab.detector import Detector
from occ_lab.engine.fit import fitted
from occ_lab.engine.job import Job
from occ_lab.engine.samples import use_fast_samples
from occ_lab.metrics import ImageAUROC, PixelAUROC
from occ_lab.utils.files import write_whole
from occ_lab.utils.memory import peak_mb, reset_peak

SECONDS = 2.0  # duration of each throughput measurement
CIFAR10_CLASSES = (
    *("airplane", "automobile", "bird", "cat", "deer"),
    *("dog", "frog", "horse", "ship", "truck"),
)


def command_line(about: str | None) -> argparse.ArgumentParser:
    """The common parser of all studies."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--data", type=Path, required=True, help="folder of the real data")
    return parser


def sets(data: Path) -> dict[str, list[str]]:
    """The available structured sets, as overrides."""
    return {
        **{name: ["dataset=textures", f"dataset.category={name}"] for name in TEXTURES},
        "transistor": ["dataset=mvtec", f"dataset.root={data}/mvtec_256"],
        "magnetic_tile": ["dataset=magnetic_tile", f"dataset.root={data}/magnetic_tile"],
    }


# The defaults until 2026-11-26. Studies whose figures were recorded with them set them explicitly.
TEN_EPOCHS = "loss.fit.epochs=10"
LEVELS_AS_THEY_ARE = "loss.unit_rms=false"
TEXTURES = ("brick", "grass", "gravel")


def trial(overrides: list[str]) -> dict[str, Any]:
    """Fit and test the first task: the figures of a table of methods, and the curves.

    The scoring throughput is that of the whole detector, from images in memory to maps and image
    scores: backbone, projector, objective, smoothing.
    """
    job = job_of(overrides)
    task = job.benchmark.tasks()[0]
    reset_peak()
    with tempfile.TemporaryDirectory() as folder:
        logger = CSVLogger(folder, name="", version="")
        checkpoint = Path(folder) / "last.ckpt"
        member = fitted(job, job.benchmark, task, [logger], [], checkpoint)
        curves = logged(Path(logger.log_dir) / "metrics.csv")
    peak = peak_mb()
    detector, device = member.detector.eval(), member.trainer.strategy.root_device
    image = next(image_batches(member.data.test_images, device, job.eval_batch_size))
    with torch.inference_mode():
        (seconds,) = least_seconds([lambda: detector(image)], SECONDS)
    return {
        **member.recorder.metrics,
        "fit_seconds": member.seconds["fit"],
        "test_seconds": member.seconds["test"],
        "images_per_second": len(image) / seconds,
        "peak_memory_mb": peak,
        "trainable_parameters": detector.trainable,
        "curves": curves,
    }


def cached_data(job: Job, batch_size: int) -> AnomalyDataModule:
    """The first task of a job, with features computed on the CPU instead of images."""
    task = job.benchmark.tasks()[0]
    data = AnomalyDataModule(job.benchmark, task, batch_size, job.eval_batch_size, job.workers)
    use_fast_samples(data, job, torch.device("cpu"))
    return data


def aurocs(detector: Detector, data: AnomalyDataModule) -> dict[str, float]:
    """Image AUROC of a detector on test images and, if they have masks, pixel AUROC, in 0..1."""
    image, pixel = ImageAUROC(), PixelAUROC()
    detector.eval()
    masked = False
    with torch.no_grad():
        for batch in data.test_dataloader():
            _, maps, scores = detector.batch_scores(batch)
            image.update(scores, batch["label"])
            masked = maps is not None and "mask" in batch
            if masked:
                pixel.update(maps, batch["mask"])
    found = {"image_auroc": float(image.compute())}
    if masked:
        found["pixel_auroc"] = float(pixel.compute())
    del image, pixel
    gc.collect()  # a metric refers to itself and would keep its pixels alive
    return found


class Watch(Callback):
    """Records the test figures and the mean loss during a training, which they do not influence.

    Args:
        steps: the numbers of optimizer steps after which it looks.

    Attributes:
        seen: of each look, the ``step``, the mean training ``loss`` since the look before, the
            objective's facts, and the figures of `aurocs`.
    """

    def __init__(self, steps: Iterable[int]) -> None:
        self.steps = set(steps)
        self.seen: list[dict[str, float]] = []
        self._losses: list[float] = []

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, *batch: Any
    ) -> None:
        """Look after some of the steps."""
        self._losses.append(float(outputs["loss"]))
        step = trainer.global_step
        if step in self.steps and (not self.seen or self.seen[-1]["step"] < step):
            assert isinstance(pl_module, Detector)
            data: Any = trainer.datamodule  # type: ignore[attr-defined]
            facts = {name: float(fact) for name, fact in pl_module.objective.facts().items()}
            found = aurocs(pl_module, data)
            pl_module.train()
            self.seen.append({"step": step, "loss": fmean(self._losses), **facts, **found})
            self._losses = []


def at(overrides: list[str], data: Path) -> list[str]:
    """The overrides with DIR replaced by the folder of the data."""
    return [override.replace("DIR", str(data)) for override in overrides]


def whole_run(overrides: list[str], data: Path) -> dict[str, dict[str, Any]]:
    """The metrics of every task of a run that is discarded; DIR stands for the data."""
    with tempfile.TemporaryDirectory() as folder:
        return perform_run(composed("train", at([*overrides, "maps=0"], data)), Path(folder))


def record(path: Path, trials: Iterable[tuple[str, Callable[[], Any]]]) -> dict[str, Any]:
    """Results by key; missing trials are run, and the file is written after each."""
    results: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {}
    for key, run_trial in trials:
        if key not in results:
            results[key] = run_trial()
            write_whole(path, json.dumps(results, indent=1) + "\n")
    return results


def logged(path: Path) -> dict[str, list[float]]:
    """The curves of all values that were logged per epoch."""
    curves: dict[str, list[float]] = {}
    with path.open(encoding="utf-8", newline="") as stream:
        for row in csv.DictReader(stream):
            for name in ("loss", "radius", "repelled"):
                if row.get(name):
                    curves.setdefault(name, []).append(float(row[name]))
    return curves


def table(titles: list[str], rows: list[list[str]]) -> list[str]:
    """The lines of a Markdown table."""
    return ["| " + " | ".join(line) + " |" for line in (titles, ["---"] * len(titles), *rows)]


def spread(values: list[float], scale: float = 1.0, digits: int = 1) -> str:
    """The mean over several seeds, and their sample standard deviation if they differ."""
    mean = scale * fmean(values)
    deviation = scale * stdev(values) if len(values) > 1 else 0.0
    text = f"{mean:.{digits}f}"
    return text if deviation < 0.5 * 10**-digits else f"{text} ± {deviation:.{digits}f}"
