"""The images of a task, or what takes their place: cached features, or images in memory."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import torch
from lightning import Trainer

from occ_lab.backbones.base import FrozenBackbone
from occ_lab.data.base import Benchmark
from occ_lab.data.datamodule import AnomalyDataModule
from occ_lab.engine.job import Job
from occ_lab.features.dataset import in_memory
from occ_lab.features.extraction import use_features

log = logging.getLogger(__name__)


def data_of(
    job: Job, benchmark: Benchmark, task: str, validation: float, aside: Sequence[int]
) -> AnomalyDataModule:
    """The images of a task, checked, without those at the indices ``aside``."""
    sizes = job.batch_size, job.eval_batch_size, job.workers
    data = AnomalyDataModule(benchmark, task, *sizes, validation)
    data.prepare_data()
    data.test_images.memo = None if job.workers else job.shared  # that of this process
    if aside:
        data.set_aside(aside)
    return data


def use_fast_samples(
    data: AnomalyDataModule, job: Job, device: torch.device, *others: torch.device
) -> None:
    """Make ``data`` return unchanging samples from the cache or memory instead of image files."""
    if isinstance(job.backbone, FrozenBackbone):
        if job.cache is not None:
            use_features(data, job.cache, job.backbone, device, others)
        return
    if job.cache is not None:
        log.info("cache: off, because the backbone is trained")
    data.train_set = in_memory(data.train_images)
    data.validation_set = in_memory(data.validation_images)
    data.test_set = in_memory(data.test_images)


def devices_of(trainer: Trainer) -> list[torch.device]:
    """The device of this process, then the others that its trainer uses on this machine.

    Those wait until the features are in the cache; their processes start later, or wait as well.
    """
    every = getattr(trainer.strategy, "parallel_devices", None) or []
    return list(dict.fromkeys([trainer.strategy.root_device, *every]))
