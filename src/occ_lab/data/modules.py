"""A LightningDataModule for each benchmark, by its name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

from occ_lab.data.base import Benchmark
from occ_lab.data.datamodule import AnomalyDataModule
from occ_lab.data.datasets import (
    btad,
    cats_and_dogs,
    celeba,
    cifar,
    class_folder,
    folder,
    magnetic_tile,
    mnist,
    mpdd,
    mvtec,
    textures,
    visa,
)


class NamedDataModule(AnomalyDataModule):
    """The data module of one task of a benchmark that a subclass names.

    Args:
        root: the folder that holds the data; by default the benchmark's ``home``.
        category: the task. It may be left out where there is one alone.
        batch_size: images in a training batch of a process.
        eval_batch_size: images in a batch of any pass without gradients.
        workers: processes that read images; 0 reads them in the main process.
        validation: fraction of the normal training images that is held out for validation.
        benchmark: further arguments of the benchmark, such as ``resize``, ``crop`` or
            ``train_limit``, see `Benchmark` and the class that the subclass names.

    Raises:
        InputError: the data is absent, or ``category`` is not one task of it.
    """

    of: ClassVar[type[Benchmark]]
    preset: ClassVar[Mapping[str, Any]] = MappingProxyType({})

    def __init__(
        self,
        root: str | Path | None = None,
        category: str | int | Sequence[str | int] = "all",
        *,
        batch_size: int = 16,
        eval_batch_size: int = 32,
        workers: int = 0,
        validation: float = 0.0,
        **benchmark: Any,
    ) -> None:
        place = {} if root is None else {"root": root}
        made = self.of(category=category, **{**self.preset, **place, **benchmark})
        super().__init__(made, None, batch_size, eval_batch_size, workers, validation)


class MVTecAD(NamedDataModule):
    """One category of MVTec AD, or of any folder in its layout.

    Example:
        >>> data = MVTecAD(root="data/mvtec", category="transistor")  # doctest: +SKIP
    """

    of = mvtec.MVTec


class RDMVTecAD(NamedDataModule):
    """One category of RD-MVTec AD (Lee et al. 2022): MVTec AD rotated and cropped at random."""

    of = mvtec.MVTec
    preset = MappingProxyType(
        {
            "name": "mvtec_rd",
            "root": "data/mvtec",
            "rotate": 10,
            "random_crop": True,
            "test_seed": 0,
        }
    )


class MPDD(NamedDataModule):
    """One metal part of MPDD."""

    of = mpdd.MPDD


class BTAD(NamedDataModule):
    """One product of BTAD."""

    of = btad.BTAD


class VisA(NamedDataModule):
    """One object of VisA."""

    of = visa.VisA


class MagneticTile(NamedDataModule):
    """Magnetic tiles, the one task of that set."""

    of = magnetic_tile.MagneticTile


class Textures(NamedDataModule):
    """One texture of the embedded benchmark, whose images are written to ``root`` on first use.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> few = {"train": 3, "normal": 1, "defective": 2}
        >>> with TemporaryDirectory() as root:
        ...     data = Textures(root, "grass", batch_size=2, validation=0.3, **few)
        ...     len(data.train_images), len(data.validation_images), len(data.test_images)
        (2, 1, 3)
    """

    of = textures.Textures


class Folder(NamedDataModule):
    """A user's own images of one product, see `occ_lab.data.datasets.folder.Folder`.

    Args:
        normal: the folder of normal images.
        abnormal: the folder of anomalous images, or None.
        masks: the folder of their masks, or None.
        options: those of every data module, and further arguments of the benchmark.

    Example:
        >>> data = Folder("parts/good", abnormal="parts/scratched")  # doctest: +SKIP
    """

    of = folder.Folder

    def __init__(
        self,
        normal: str | Path,
        abnormal: str | Path | None = None,
        masks: str | Path | None = None,
        **options: Any,
    ) -> None:
        super().__init__(normal=normal, abnormal=abnormal, masks=masks, **options)


class ClassFolder(NamedDataModule):
    """One class of any classification data as ``{train,test}/<class>/`` folders of images."""

    of = class_folder.ClassFolder


class CIFAR10(NamedDataModule):
    """One class of CIFAR-10 against the others."""

    of = cifar.CIFAR10


class CIFAR100(NamedDataModule):
    """One of the 20 superclasses of CIFAR-100 against the others."""

    of = cifar.CIFAR100


class MNIST(NamedDataModule):
    """One digit of MNIST against the others."""

    of = mnist.MNIST


class FashionMNIST(NamedDataModule):
    """One kind of clothing of Fashion-MNIST against the others."""

    of = mnist.FashionMNIST


class CatsAndDogs(NamedDataModule):
    """Cats against dogs, or dogs against cats."""

    of = cats_and_dogs.CatsAndDogs


class CelebA(NamedDataModule):
    """Faces without an attribute, by default glasses, against faces with it."""

    of = celeba.CelebA
