"""The pictures of a report, reduced and embedded in the page."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from occ_lab.reporting.report.gather import Task
from occ_lab.reporting.report.groups import RANKED_BY, Group, Grouped

WIDTH = 1400  # the largest width: a strip of four panels of whole images, enlarged
QUALITY = 75


@dataclass(frozen=True)
class Shown:
    """The worst misses on one task by the best run of its kind.

    Attributes:
        run: group and seed.
        task: the name of the task.
        found: the number of pictures that the run has of it.
        pictures: name and data URI, the worst first.
    """

    run: str
    task: str
    found: int
    pictures: list[tuple[str, str]] = field(default_factory=list)


def worst_misses(found: Grouped, count: int, limit: int) -> tuple[list[Shown], list[Path]]:
    """The first pictures of each task by the best run of each dataset and loss.

    Args:
        found: all groups.
        count: the largest number of pictures of each task.
        limit: the total number of characters of all data URIs; the worst misses of every task come
            first.

    Returns:
        The tasks that have pictures, and the files that could not be read.
    """
    tasks = [
        (Shown(f"{group.label}, seed {seed}", task.name, len(task.pictures)), task)
        for group in best_of_each_loss(found)
        for seed, task in results_of_best_run(group)
        if task.pictures
    ]
    unreadable = []
    for index in range(count):
        for shown, task in tasks:
            if index >= len(task.pictures):
                continue
            path = task.pictures[index]
            try:
                uri = data_uri(path)
            except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
                unreadable.append(path)
                continue
            limit -= len(uri)
            if limit < 0:
                return [each for each, _ in tasks], unreadable
            shown.pictures.append((path.stem, uri))
    return [each for each, _ in tasks], unreadable


def best_of_each_loss(found: Grouped) -> list[Group]:
    """The first-ranked group with pictures of each dataset and loss."""
    best: dict[tuple[str, str], Group] = {}
    for group in found.groups:
        if any(task.pictures for _, task in results_of_best_run(group)):
            best.setdefault((group.dataset, group.runs[0].header["loss"]), group)
    return list(best.values())


def results_of_best_run(group: Group) -> list[tuple[int, Task]]:
    """The seed with the highest mean image AUROC over the shared tasks, and its tasks."""

    def total(seed: int) -> float:
        tasks = [group.tasks[name][seed] for name in group.shared]
        return sum(task.metric(RANKED_BY) or 0.0 for task in tasks)

    seed = max(group.seeds, key=total)
    return [(seed, results[seed]) for results in group.tasks.values() if seed in results]


def data_uri(path: Path) -> str:
    """A picture as WebP in a data URI, no wider than `WIDTH`."""
    with Image.open(path) as opened:
        picture = opened.convert("RGB")
    picture.thumbnail((WIDTH, WIDTH))
    buffer = io.BytesIO()
    picture.save(buffer, "WEBP", quality=QUALITY)
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"
