"""What is measured over which sizes, and how fast it may grow."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch

from benchmarks.growth.points import (
    Figures,
    over_test,
    over_train,
    pixels_of_maps,
    solved,
    streamed,
    sweep,
    train_and_test,
    whole,
)
from benchmarks.whole_runs import CLOSED_FORM, LOCAL
from occ_lab.objectives.gaussian import Gaussian
from occ_lab.objectives.kde import KDE
from occ_lab.objectives.knn import KNN
from occ_lab.objectives.norm.objective import Norm
from occ_lab.objectives.padim import PaDiM
from occ_lab.utils.allocator import keep_freed_memory

UNLIMITED = 1e9  # MB


@dataclass(frozen=True)
class Case:
    """One piece of work over several sizes.

    Attributes:
        measure: returns its cost at a size.
        sizes: ascending.
        time: the exponent of the size with which the time must grow.
        memory: the same for the memory.
        why: says why it must.
    """

    measure: Callable[[int], Figures]
    sizes: tuple[int, ...]
    time: float
    memory: float
    why: str


METHODS = {
    "norm, local": LOCAL,
    "norm, one projector": CLOSED_FORM,
    "PaDiM": ["loss=padim"],
    "Gaussian": ["loss=gaussian"],
    "neighbours": ["loss=knn", "loss.bank=2000"],
    "KDE": ["loss=kde", "loss.samples=2000"],
    "one-class SVM": ["loss=ocsvm_rbf", "loss.samples=2000"],
}
IMAGES = (100, 1_000, 3_000, 10_000)
EVERY = "every image passes once"
CHANNELS = (176, 352, 704, 1408, 2048)

AXES: dict[str, dict[str, Case]] = {
    "images": {
        **{
            f"fit, {name}": Case(over_train(asked), IMAGES, 1, 0, EVERY)
            for name, asked in METHODS.items()
        },
        "fit and test through the cache": Case(
            partial(train_and_test, cached=True),
            (*IMAGES, 20_000),
            1,
            0,
            "the cache is on disk",
        ),
        "test with pixel metrics": Case(over_test(LOCAL), IMAGES, 1, 0, EVERY),
        "pixel metrics of maps of 224 px": Case(
            pixels_of_maps, (1_000, 3_000, 6_000, 12_000), 1, 0, "scores are counted"
        ),
        "fit and test, to 100,000": Case(
            train_and_test, (1_000, 10_000, 30_000, 100_000), 1, 0, EVERY
        ),
        "stream, image by image": Case(
            streamed, (100, 1_000, 3_000, 10_000), 1, 0, "solved ever more rarely"
        ),
    },
    "pixels": {
        "side, tiles of 256 px": Case(
            lambda side: whole(1, 2, LOCAL, side, tile=256),
            (256, 512, 1024, 2048, 4096),
            2,
            2,
            "an image has side² pixels",
        ),
        "side, whole images": Case(
            lambda side: whole(2, 2, LOCAL, side),
            (224, 448, 896),
            2,
            2,
            "an image has side² pixels",
        ),
    },
    "channels": {
        "norm, local": Case(
            lambda channels: solved(Norm, channels, 16),
            CHANNELS[:-1],
            3,
            2,
            "eigenvectors of C × C a cell",
        ),
        "norm, one projector": Case(
            lambda channels: solved(lambda: Norm(cell=None, bias="flow", time=10), channels, 14),
            (*CHANNELS, 4096),
            3,
            2,
            "eigenvectors of C × C",
        ),
        "Gaussian": Case(
            lambda channels: solved(Gaussian, channels, 14),
            (*CHANNELS, 4096),
            3,
            2,
            "Cholesky factor of C × C",
        ),
        "PaDiM, 100 channels kept": Case(
            lambda channels: solved(PaDiM, channels, 14),
            (*CHANNELS, 4096),
            1,
            1,
            "the features themselves",
        ),
        "PaDiM, all kept": Case(
            lambda channels: solved(lambda: PaDiM(dims=channels), channels, 8),
            (88, 176, 352, 704),
            3,
            2,
            "a C × C factor a position",
        ),
        "neighbours": Case(
            lambda channels: solved(lambda: KNN(bank=1000), channels, 28),
            (*CHANNELS, 4096),
            1,
            1,
            "distances of C terms",
        ),
        "KDE": Case(
            lambda channels: solved(lambda: KDE(samples=1000), channels, 28),
            (*CHANNELS, 4096),
            1,
            1,
            "kernels of C terms",
        ),
    },
    "cells": {
        "cells of 4 × 4, C = 96": Case(
            lambda cells: solved(
                lambda: Norm(cell=4, memory_mb=UNLIMITED), 96, 4 * round(cells**0.5)
            ),
            (16, 64, 144, 400, 784),
            1,
            1,
            "C² sums and a decomposition a cell",
        ),
        "the same within 16 MB": Case(
            lambda cells: solved(lambda: Norm(cell=4, memory_mb=16), 96, 4 * round(cells**0.5)),
            (16, 64, 144, 400, 784),
            1,
            1,
            "means and features of positions",
        ),
    },
    "classes": {
        "tasks of a run": Case(
            lambda tasks: whole(64, 16, LOCAL, tasks=tasks), (1, 2, 4, 8, 16), 1, 0, "one by one"
        ),
    },
    "jobs": {
        "jobs of a sweep": Case(
            sweep, (1, 2, 4, 8, 16), 1, 0, "features are shared; up to 1 GB of results is kept"
        ),
    },
}


def point(axis: str, name: str, size: int) -> Figures:
    """The cost at one size, in this process, with the settings of the commands and one thread."""
    keep_freed_memory()
    torch.set_num_threads(1)
    return AXES[axis][name].measure(size)
