"""Benchmarks and the data modules over them: which images a task has, and how they are read.

The data modules are imported on first use, because they import torch, which takes seconds.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from occ_lab.data.base import Benchmark
from occ_lab.data.items import Counts, Item, Split

if TYPE_CHECKING:
    from occ_lab.data.datamodule import AnomalyDataModule
    from occ_lab.data.modules import (
        BTAD,
        CIFAR10,
        CIFAR100,
        MNIST,
        MPDD,
        VAD,
        CatsAndDogs,
        CelebA,
        ClassFolder,
        FashionMNIST,
        Folder,
        KolektorSDD2,
        MagneticTile,
        MVTecAD,
        MVTecAD2,
        MVTecLOCO,
        RDMVTecAD,
        RealIAD,
        Textures,
        VisA,
    )
    from occ_lab.data.tiling import Tiles
    from occ_lab.data.transforms import Preprocessing, WholeImage

__all__ = [
    "BTAD",
    "CIFAR10",
    "CIFAR100",
    "MNIST",
    "MPDD",
    "VAD",
    "AnomalyDataModule",
    "Benchmark",
    "CatsAndDogs",
    "CelebA",
    "ClassFolder",
    "Counts",
    "FashionMNIST",
    "Folder",
    "Item",
    "KolektorSDD2",
    "MVTecAD",
    "MVTecAD2",
    "MVTecLOCO",
    "MagneticTile",
    "Preprocessing",
    "RDMVTecAD",
    "RealIAD",
    "Split",
    "Textures",
    "Tiles",
    "VisA",
    "WholeImage",
]


def __getattr__(name: str) -> Any:
    """A data module, imported when it is used."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    homes = {
        "AnomalyDataModule": "datamodule",
        "Preprocessing": "transforms",
        "Tiles": "tiling",
        "WholeImage": "transforms",
    }
    module = homes.get(name, "modules")
    return getattr(import_module(f"{__name__}.{module}"), name)
