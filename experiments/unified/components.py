"""Groups of similar images, found without labels in the mean features of whole images."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from sklearn.cluster import KMeans
from sklearn.metrics import silhouette_score

from benchmarks.whole_runs import job_of
from occ_lab.data.datamodule import sized
from occ_lab.engine.fit import data_of, use_fast_samples

MOST = 8  # groups that a group is divided into at a time
# "A reasonable structure has been found" above it (Kaufman and Rousseeuw 1990, table 4).
REASONABLE = 0.5
BATCH = 32


def components(overrides: list[str]) -> dict[str, dict[str, list[int]]]:
    """Find the groups of all training images, and the group of each test image.

    Args:
        overrides: of a benchmark with several tasks.

    Returns:
        ``train`` and ``test``: for each task, the numbers of its images in each group.
    """
    job = job_of(overrides)
    means: dict[str, list[np.ndarray]] = {"train": [], "test": []}
    tasks = job.benchmark.tasks()
    for task in tasks:
        data = data_of(job, job.benchmark, task, 0.0, [])
        use_fast_samples(data, job, torch.device("cpu"))
        means["train"].append(mean_features(data.train_set))
        means["test"].append(mean_features(data.test_set))
    trained = np.concatenate(means["train"])
    groups = divided(trained, np.arange(len(trained)))
    centres = np.stack([trained[rows].mean(axis=0) for rows in groups])
    return {
        part: {
            task: np.bincount(nearest(of_task, centres), minlength=len(groups)).tolist()
            for task, of_task in zip(tasks, features, strict=True)
        }
        for part, features in means.items()
    }


def mean_features(samples: Any) -> np.ndarray:
    """The mean of every channel over the positions of an image, ``[N, C]``."""
    found = []
    for rows in torch.split(torch.arange(sized(samples)), BATCH):
        levels = samples.__getitems__(rows.tolist())["levels"]
        found.append(torch.cat([level.float().mean(dim=(2, 3)) for level in levels], dim=1))
    return torch.cat(found).numpy()


def divided(x: np.ndarray, rows: np.ndarray) -> list[np.ndarray]:
    """Divide rows into groups as long as the best division has a reasonable silhouette."""
    best, labels = REASONABLE, None
    for count in range(2, min(MOST, len(rows) - 1) + 1):
        tried = KMeans(count, n_init=10, random_state=0).fit_predict(x[rows])
        silhouette = silhouette_score(x[rows], tried)
        if silhouette > best:
            best, labels = silhouette, tried
    if labels is None:
        return [rows]
    return [group for label in np.unique(labels) for group in divided(x, rows[labels == label])]


def nearest(x: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """The index of the nearest centre of each row."""
    return np.linalg.norm(x[:, None] - centres, axis=2).argmin(axis=1)
