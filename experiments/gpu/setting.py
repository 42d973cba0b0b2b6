"""What a run of the GPU study works with: the device, the size of the work, its images."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning import Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import Logger
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader

from experiments.gpu.decoding import plain_loader
from occ_lab.backbones.timm import TimmBackbone
from occ_lab.config.launchers import cores
from occ_lab.data.datamodule import AnomalyDataModule
from occ_lab.data.datasets.mvtec import MVTec
from occ_lab.data.datasets.textures import Textures
from occ_lab.data.generated import made_image
from occ_lab.features.cache import FeatureCache
from occ_lab.utils.quiet import quiet_lightning

Figures = dict[str, Any]


@dataclass(frozen=True)
class Effort:
    """The size of the work.

    Attributes:
        model: the network in timm.
        weights: the origin of its weights.
        side: the side of the images in pixels.
        photographs: the training, normal and anomalous images for the checks of correctness.
        steps: the optimizer steps of a training by gradient.
        bank: the largest number of vectors that objectives with a sample keep.
        files: the training and test images for the measurements of speed.
        batch: the batch size of the extraction, at least, and of scoring.
        views: the number and the side of the images of stage 1 of two-stage learning.
        repeats: how often passes and whole jobs are measured; the fastest counts.
        seconds: the duration of a measurement of a short step.
        formats: the formats of the export.
    """

    model: str = "tf_efficientnet_lite0"
    weights: str = "package"
    side: int = 256
    photographs: tuple[int, int, int] = (32, 8, 16)
    steps: int = 16
    bank: int = 2000
    files: tuple[int, int] = (3840, 256)
    batch: int = 32
    views: tuple[int, int] = (32, 32)
    repeats: int = 2
    seconds: float = 3.0
    formats: tuple[str, ...] = ("torch_export", "onnx")


SHORT = Effort(
    model="test_efficientnet",
    weights="random",
    side=64,
    photographs=(4, 1, 2),
    steps=2,
    bank=100,
    files=(8, 4),
    batch=4,
    views=(4, 8),
    repeats=1,
    seconds=0.02,
    formats=("torch_export",),
)


@dataclass
class Setting:
    """The device that is compared with the CPU, and a folder for everything temporary.

    Attributes:
        device: the other device; the CPU itself tries the study without one.
        effort: the size of the work.
        work: an empty folder.
        seconds_left: returns the time left for the study.
    """

    device: torch.device
    effort: Effort
    work: Path
    seconds_left: Callable[[], float] = field(default=lambda: float("inf"))

    @property
    def count(self) -> int:
        """The number of devices of this kind; for the CPU two processes."""
        return torch.accelerator.device_count() if self.device.type != "cpu" else 2

    @cached_property
    def cache(self) -> FeatureCache:
        """A cache of features that were computed on the CPU."""
        return FeatureCache(self.work / "cache")

    def backbone(self, precision: str = "float32") -> TimmBackbone:
        """The frozen network, on the CPU."""
        return TimmBackbone(self.effort.model, self.effort.weights, precision=precision)

    def overrides(self) -> list[str]:
        """The network for the command line."""
        effort = self.effort
        return [f"backbone.model={effort.model}", f"backbone.weights={effort.weights}"]

    @property
    def photograph_settings(self) -> dict[str, int]:
        """The arguments of the embedded benchmark."""
        train, normal, defective = self.effort.photographs
        side = self.effort.side
        counts = {"train": train, "normal": normal, "defective": defective}
        return {**counts, "resize": side, "crop": side}

    def photographs(self) -> AnomalyDataModule:
        """The embedded photographs of brick with drawn defects."""
        benchmark = Textures(
            root=self.work / "photographs", category="brick", **self.photograph_settings
        )
        return AnomalyDataModule(benchmark)

    @cached_property
    def files(self) -> Path:
        """A folder of JPEG files of the side of the network's input, in the layout of MVTec AD."""
        return jpeg_files(self.work / "files", self.effort.side, *self.effort.files)

    @cached_property
    def bare_loader(self) -> DataLoader[Tensor]:
        """All of `files`, read by a process for each core, which take seconds to start."""
        split = self.benchmark().split("part")
        paths = [item.path for item in (*split.train, *split.test)]
        processes = 0 if self.device.type == "cpu" else cores()
        return plain_loader(paths, processes, pinned=self.device.type == "cuda")

    def benchmark(self) -> MVTec:
        """The benchmark of `files`."""
        side = self.effort.side
        return MVTec(root=self.files, category="part", resize=side, crop=side)


def trainer_on(device: torch.device, precision: str = "32-true") -> Callable[..., Trainer]:
    """What makes a Trainer on a device, see `occ_lab.engine.job.MakeTrainer`."""

    def make(loggers: Sequence[Logger], callbacks: Sequence[Callback], max_epochs: int) -> Trainer:
        with quiet_lightning():
            return Trainer(
                accelerator=device.type,
                devices=1,
                precision=precision,
                logger=list(loggers),
                callbacks=list(callbacks),
                max_epochs=max_epochs,
                enable_checkpointing=False,
                enable_model_summary=False,
                enable_progress_bar=False,
                num_sanity_val_steps=0,
            )

    return make


def jpeg_files(folder: Path, side: int, train: int, test: int, different: int = 64) -> Path:
    """Write a category of JPEG files; half of the test images have a mask.

    There are only ``different`` images, under several names: a file is read and decoded each time.
    """
    pictures = []
    for seed in range(min(different, train)):
        stream = io.BytesIO()
        Image.fromarray(made_image(seed, side, side)).save(stream, "jpeg", quality=90)
        pictures.append(stream.getvalue())
    mask = np.zeros((side, side), np.uint8)
    mask[side // 4 : side // 2, side // 4 : side // 2] = 255
    parts = {"train/good": train, "test/good": test // 2, "test/bad": test - test // 2}
    for part, count in parts.items():
        (folder / "part" / part).mkdir(parents=True)
        for index in range(count):
            path = folder / "part" / part / f"{index:05}.jpg"
            path.write_bytes(pictures[index % len(pictures)])
    marked = folder / "part" / "ground_truth" / "bad"
    marked.mkdir(parents=True)
    for index in range(test - test // 2):
        Image.fromarray(mask).save(marked / f"{index:05}_mask.png")
    return folder


def wait(device: torch.device) -> None:
    """Wait until a device has finished its work."""
    if device.type != "cpu":
        torch.accelerator.synchronize()
