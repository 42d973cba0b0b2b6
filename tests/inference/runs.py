"""Small runs, trained on generated parts, for tests that use a run directory."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from occ_lab.config.composition import composed
from occ_lab.config.train import perform_run
from tests.data.trees import class_tree, mvtec_tree

SMALL = ["maps=0", "logger=none", "cache.enabled=false", "trainer.accelerator=cpu"]
STRUCTURED = [*SMALL, "dataset=mvtec", "dataset.resize=64", "dataset.crop=64", "loss.fit.epochs=1"]
TINY = [
    *("backbone=resnet18", "backbone.model=test_resnet", "backbone.weights=random"),
    "backbone.strides=[4,8]",
]
OBJECTIVES = {
    "norm": ["loss.solver=gradient"],
    "norm_mean": ["loss.solver=gradient", "loss.target=mean"],
    "closed_form": ["loss=norm", "loss.solver=closed_form", "loss.time=3"],
    "local": [
        "loss=norm",
        "loss.solver=closed_form",
        "loss.cell=4",
        "loss.bias=solved",
        "loss.time=integrated",
    ],
    "local_gradient": ["loss=norm", "loss.solver=gradient", "projector=local"],
    "cfa": ["loss=cfa"],
    "svdd": ["loss=svdd"],
    "svdd_soft": ["loss=svdd", "loss.boundary=soft", "loss.warmup=0"],
    "knn": ["loss=knn"],
    "padim": ["loss=padim"],
    "gaussian": ["loss=gaussian"],
    "kde": ["loss=kde"],
    "ocsvm_rbf": ["loss=ocsvm_rbf", "loss.samples=200"],
}


def trained(folder: Path, *overrides: str, category: str = "bolt") -> Path:
    """A small run on a part, with a tiny network unless another is given; its directory."""
    mvtec_tree(folder / "parts", category)
    where = [f"dataset.root='{folder}/parts'"]
    asked = [*STRUCTURED, *network(overrides), *where, *overrides]
    perform_run(composed("train", asked), folder / "out")
    return folder / "out"


def trained_on_classes(folder: Path, *overrides: str) -> Path:
    """A small run on whole images of one class, see `trained`; its directory."""
    class_tree(folder / "classes", side=28)
    size = ["dataset.resize=28", "dataset.crop=28", "loss.fit.epochs=1"]
    where = ["dataset=class_folder", f"dataset.root='{folder}/classes'", "dataset.category=dot"]
    asked = [*SMALL, *size, *network(overrides), *where, *overrides]
    perform_run(composed("train", asked), folder / "out")
    return folder / "out"


def network(overrides: Sequence[str]) -> list[str]:
    return [] if any(each.startswith("backbone=") for each in overrides) else TINY


def written(directory: Path, task: str) -> tuple[list[str], torch.Tensor]:
    """The paths and scores of the test images that a run has written."""
    with (directory / "tasks" / task / "scores.csv").open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    return [row["path"] for row in rows], torch.tensor([float(row["score"]) for row in rows])


def change_checkpoint(directory: Path, task: str, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the content of a task's checkpoint."""
    path = directory / "tasks" / task / "checkpoints" / "last.ckpt"
    content = torch.load(path, weights_only=True)
    change(content)
    torch.save(content, path)
