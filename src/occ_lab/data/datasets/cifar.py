"""CIFAR-10 and CIFAR-100."""

from __future__ import annotations

import pickle
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

import numpy as np

from occ_lab.data.datasets.class_folder import ClassFolder
from occ_lab.data.datasets.classes import Classified, Part
from occ_lab.data.items import Item
from occ_lab.utils.errors import InputError

Classes = Literal["super", "fine"]


class CIFAR10(ClassFolder):
    """CIFAR-10 (Krizhevsky 2009): torchvision's files, or ``{train,test}/<class>/*.png``."""

    layout = "cifar-10-batches-py/{data_batch_1,...,test_batch}, or {train,test}/<class>/*.png"
    source = "https://www.cs.toronto.edu/~kriz/cifar.html"
    licence = "for research; cite Krizhevsky 2009"
    size = "170 MB"
    task_count = "10"
    home = "data"
    crop = 224
    folder: ClassVar[str] = "cifar-10-batches-py"
    files: ClassVar[dict[Part, tuple[str, ...]]] = {
        "train": tuple(f"data_batch_{number}" for number in range(1, 6)),
        "test": ("test_batch",),
    }
    meta: ClassVar[str] = "batches.meta"
    labels: str = "labels"
    names: str = "label_names"

    def available(self) -> list[str]:
        """The classes if all of torchvision's files are present, or those that have a folder."""
        return sorted(self._packed_classes()) or super().available()

    def _packed_classes(self) -> list[str]:
        """The classes in the order of their labels; none if torchvision's files are not present."""
        folder = self.root / self.folder
        wanted = [self.meta, *self.files["train"], *self.files["test"]]
        found = all((folder / name).is_file() for name in wanted)
        return list(read_pickle(folder / self.meta)[self.names]) if found else []

    def class_sizes(self) -> dict[str, tuple[int, int]]:
        """The same sizes for all classes."""
        names = self.available()
        return dict.fromkeys(names, (50_000 // len(names), 10_000 // len(names)))

    def classified(self, part: Part) -> list[Classified]:
        """The images in the order of torchvision's files, or of folders."""
        names = self._packed_classes()
        if not names:
            return super().classified(part)
        return [
            (names[label], path, index)
            for path in (self.root / self.folder / name for name in self.files[part])
            for index, label in enumerate(read_pickle(path)[self.labels])
        ]

    def read(self, item: Item) -> np.ndarray:
        """An image, uint8 ``[32, 32, 3]``, or of another size if it has a file of its own."""
        if item.index is None:
            return super().read(item)
        pixels = read_pickle(item.path)["data"][item.index]
        return np.ascontiguousarray(pixels.reshape(3, 32, 32).transpose(1, 2, 0))


class CIFAR100(CIFAR10):
    """CIFAR-100 (Krizhevsky 2009) as 20 superclasses, the usual protocol, or as 100 classes.

    Args:
        root: the folder that holds ``cifar-100-python``, or ``{train,test}/<class>/``.
        classes: ``super`` or ``fine``.
        common: the arguments of every class benchmark.
    """

    layout = "cifar-100-python/{train,test,meta}, or {train,test}/<class>/*.png"
    size = "169 MB"
    task_count = "20 or 100"
    folder = "cifar-100-python"
    files: ClassVar[dict[Part, tuple[str, ...]]] = {"train": ("train",), "test": ("test",)}
    meta = "meta"

    def __init__(
        self, root: str | Path | None = None, classes: Classes = "super", **common: Any
    ) -> None:
        if classes not in get_args(Classes):
            raise ValueError(f"classes must be {' or '.join(get_args(Classes))}, got {classes!r}")
        super().__init__(root=root, **common)
        kind = "coarse" if classes == "super" else "fine"
        self.labels = f"{kind}_labels"
        self.names = f"{kind}_label_names"


@cache
def read_pickle(path: Path) -> dict[str, Any]:
    """The content of one of CIFAR's pickle files, read without running any code in it.

    Raises:
        InputError: the file is damaged, or holds more than arrays, lists and text.
    """
    try:
        with path.open("rb") as file:
            content: dict[str, Any] = ArraysOnly(file, encoding="latin1").load()
            return content
    except (pickle.UnpicklingError, EOFError, ValueError, KeyError, IndexError) as error:
        raise InputError(
            f"{path}: not a complete CIFAR file ({error}); download it again"
        ) from error


class ArraysOnly(pickle.Unpickler):
    """Reads NumPy arrays and plain values, and refuses to call anything else."""

    CALLED: ClassVar[dict[tuple[str, str], Any]] = {
        ("numpy.core.multiarray", "_reconstruct"): np.empty(0).__reduce__()[0],
        ("numpy._core.multiarray", "_reconstruct"): np.empty(0).__reduce__()[0],
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): np.dtype,
        ("_codecs", "encode"): str.encode,  # bytes, as Python 3 writes them for Python 2
    }

    def find_class(self, module: str, name: str) -> Any:
        """One of the functions in ``CALLED``."""
        if (module, name) not in self.CALLED:
            raise pickle.UnpicklingError(f"it would call {module}.{name}")
        return self.CALLED[module, name]
