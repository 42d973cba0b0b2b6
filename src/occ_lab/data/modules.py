"""A LightningDataModule for each benchmark, by its name.

Each data module holds one task: ``trainer.fit(detector, datamodule=MVTecAD("data/mvtec",
"bottle"))``. The benchmarks' classes in `occ_lab.data.datasets` and the command
``occ-lab data list`` say what the folders must hold, and where to get the data under
which licence.
"""

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
    kolektor_sdd2,
    magnetic_tile,
    mnist,
    mpdd,
    mvtec,
    mvtec_ad2,
    mvtec_loco,
    real_iad,
    textures,
    vad,
    visa,
)


class NamedDataModule(AnomalyDataModule):
    """One task of the benchmark that a subclass names.

    Args:
        root: the folder that holds the data; by default the benchmark's ``home``.
        category: the task; it may be left out if there is only one.
        task: the task among several that ``category`` selects, for one model of all of them
            (``protocol="unified"``): its test images are those of this task.
        batch_size: the number of images in a training batch of one process.
        eval_batch_size: the number of images in a batch of any pass without gradients.
        workers: the number of processes that read images; 0 reads them in the main process.
        validation: the fraction of the training images that is held out for validation.
        benchmark: further arguments of the benchmark, such as ``resize``, ``crop``,
            ``train_limit`` or ``protocol``; see `Benchmark` and the class of this benchmark.

    Attributes:
        of: the class of the benchmark.
        preset: default values of its arguments, which the caller can replace.

    Raises:
        InputError: the data is missing, or ``category`` does not select exactly one task.
        ValueError: a value is out of range.
    """

    of: ClassVar[type[Benchmark]]
    preset: ClassVar[Mapping[str, Any]] = MappingProxyType({})

    def __init__(
        self,
        root: str | Path | None = None,
        category: str | int | Sequence[str | int] = "all",
        *,
        task: str | None = None,
        batch_size: int = 16,
        eval_batch_size: int = 32,
        workers: int = 0,
        validation: float = 0.0,
        **benchmark: Any,
    ) -> None:
        given = {"category": category, **benchmark}
        if root is not None:
            given["root"] = root
        made = self.of(**{**self.preset, **given})
        super().__init__(made, task, batch_size, eval_batch_size, workers, validation)


class MVTecAD(NamedDataModule):
    """A category of MVTec AD (Bergmann et al. 2019, 2021), or of any folder in its layout.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> from occ_lab.data.datasets import textures  # written in the layout of MVTec AD
        >>> with TemporaryDirectory() as folder:
        ...     made = textures.Textures(root=folder, train=4, normal=1, defective=2)
        ...     made.split("gravel").has_masks
        ...     data = MVTecAD(made.root, "gravel", batch_size=2, validation=0.25)
        ...     len(data.train_images), len(data.validation_images), len(data.test_images)
        True
        (3, 1, 3)
    """

    of = mvtec.MVTec


class RDMVTecAD(NamedDataModule):
    """A category of RD-MVTec AD (Lee et al. 2022, CFA): MVTec AD rotated and cropped at random.

    ``root`` holds MVTec AD itself. Each test image is rotated and cropped once, by ``test_seed``,
    so that runs can be compared.
    """

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


class MVTecAD2(NamedDataModule):
    """A category of MVTec AD 2 (Heckler-Kram et al. 2025): ``MVTecAD2("data/mvtec_ad2", "can")``.

    The test images are those of the public test set.
    """

    of = mvtec_ad2.MVTecAD2


class MVTecLOCO(NamedDataModule):
    """A category of MVTec LOCO AD (Bergmann et al. 2022), with logical and structural anomalies."""

    of = mvtec_loco.MVTecLOCO


class RealIAD(NamedDataModule):
    """An object of Real-IAD (Wang et al. 2024): ``RealIAD("data/real_iad", "pcb", views="multi")``.

    Each of the five views of a part is an image of its own.
    """

    of = real_iad.RealIAD


class KolektorSDD2(NamedDataModule):
    """Commutator surfaces (Božič et al. 2021), one task: ``KolektorSDD2("data/kolektor_sdd2")``."""

    of = kolektor_sdd2.KolektorSDD2


class VAD(NamedDataModule):
    """The Valeo Anomaly Dataset (Baitieva et al. 2024), one task: ``VAD("data/vad")``."""

    of = vad.VAD


class MPDD(NamedDataModule):
    """A metal part of MPDD (Jezek et al. 2021): ``MPDD("data/mpdd", "tubes")``."""

    of = mpdd.MPDD


class BTAD(NamedDataModule):
    """A product of BTAD (Mishra et al. 2021): ``BTAD("data/btad", "01")``."""

    of = btad.BTAD


class VisA(NamedDataModule):
    """An object of VisA (Zou et al. 2022): ``VisA("data/visa", "pcb1", protocol="official")``."""

    of = visa.VisA


class MagneticTile(NamedDataModule):
    """Magnetic tiles (Huang et al. 2018), one task: ``MagneticTile("data/magnetic_tile")``."""

    of = magnetic_tile.MagneticTile


class Textures(NamedDataModule):
    """A texture of the embedded benchmark, which needs no download.

    The images are written to ``root`` on first use.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as root:
        ...     data = Textures(root, "grass", batch_size=2, train=3, normal=1, defective=2)
        ...     [len(batch["path"]) for batch in data.train_dataloader()]
        ...     next(iter(data.test_dataloader()))["mask"].shape
        [2, 1]
        torch.Size([3, 224, 224])
    """

    of = textures.Textures


class Folder(NamedDataModule):
    """A user's own images of one product.

    Args:
        normal: the folder of normal images, with its subfolders.
        abnormal: the folder of anomalous images, or None.
        masks: the folder of their masks, or None.
        options: the other arguments of `NamedDataModule` and of
            `occ_lab.data.datasets.folder.Folder`.

    Raises:
        InputError: a folder is missing.
        ValueError: a value is out of range.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> from PIL import Image
        >>> with TemporaryDirectory() as folder:
        ...     for number in range(5):
        ...         Image.new("RGB", (64, 64)).save(f"{folder}/{number}.png")
        ...     data = Folder(folder, train_share=0.6)
        ...     len(data.train_images), len(data.test_images)
        (3, 2)
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
    """A class of any classification dataset with images in folders ``{train,test}/<class>/``.

    Images of the class are normal and those of the other classes anomalous. With
    ``protocol="leave_one_out"`` it is the other way round. The same holds for all benchmarks that
    are made of classes.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> from PIL import Image
        >>> with TemporaryDirectory() as root:
        ...     for name in ("train/cat", "train/dog", "test/cat", "test/dog"):
        ...         Path(root, name).mkdir(parents=True)
        ...         Image.new("RGB", (32, 32)).save(f"{root}/{name}/0.png")
        ...     data = ClassFolder(root, "cat", resize=32, crop=32)
        ...     next(iter(data.test_dataloader()))["label"]
        tensor([0, 1])
    """

    of = class_folder.ClassFolder


class CIFAR10(NamedDataModule):
    """A class of CIFAR-10 (Krizhevsky 2009) against the others: ``CIFAR10("data", "bird")``."""

    of = cifar.CIFAR10


class CIFAR100(NamedDataModule):
    """A superclass of CIFAR-100, or with ``classes="fine"`` a class, against the others."""

    of = cifar.CIFAR100


class MNIST(NamedDataModule):
    """A digit of MNIST (LeCun et al. 1998) against the others: ``MNIST("data", 3)``."""

    of = mnist.MNIST


class FashionMNIST(NamedDataModule):
    """A kind of clothing of Fashion-MNIST (Xiao et al. 2017) against the others."""

    of = mnist.FashionMNIST


class CatsAndDogs(NamedDataModule):
    """Cats against dogs (Elson et al. 2007), or dogs against cats: ``CatsAndDogs(root, "cat")``."""

    of = cats_and_dogs.CatsAndDogs


class CelebA(NamedDataModule):
    """Faces without an attribute against faces with it (Liu et al. 2015), one task.

    The attribute is eyeglasses by default: ``CelebA("data", attribute="Smiling")``.
    """

    of = celeba.CelebA
