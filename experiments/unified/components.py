"""The groups that a mixture finds in all training images, and where test images go."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from benchmarks.whole_runs import job_of
from occ_lab.data.datamodule import sized
from occ_lab.engine.samples import data_of, use_fast_samples
from occ_lab.objectives.groups import groups
from occ_lab.objectives.mixture import Mixture, mean_features, nearest

BATCH = 32


def components(overrides: list[str]) -> dict[str, dict[str, list[int]]]:
    """Find the groups of all training images, and the group of each test image.

    Args:
        overrides: of a benchmark with several tasks, and of a mixture.

    Returns:
        ``train`` and ``test``: for each task, the numbers of its images in each group.
    """
    job = job_of(overrides)
    objective = job.objective()
    assert isinstance(objective, Mixture)
    means: dict[str, list[Tensor]] = {"train": [], "test": []}
    tasks = job.benchmark.tasks()
    for task in tasks:
        data = data_of(job, job.benchmark, task, 0.0, [])
        use_fast_samples(data, job, torch.device("cpu"))
        means["train"].append(of_images(data.train_set))
        means["test"].append(of_images(data.test_set))
    trained = torch.cat(means["train"])
    rows = groups(trained.double().numpy(), objective.components, objective.most, objective.seed)
    centres = torch.stack([trained[group].mean(dim=0) for group in rows])
    return {
        part: {
            task: torch.bincount(nearest(of_task, centres), minlength=len(rows)).tolist()
            for task, of_task in zip(tasks, features, strict=True)
        }
        for part, features in means.items()
    }


def of_images(samples: Any) -> Tensor:
    """The mean feature of each image, ``[N, C]``."""
    found = []
    for rows in torch.split(torch.arange(sized(samples)), BATCH):
        levels = samples.__getitems__(rows.tolist())["levels"]
        found.append(mean_features([level.float() for level in levels], None))
    return torch.cat(found)
