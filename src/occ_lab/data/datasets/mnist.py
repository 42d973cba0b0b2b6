"""MNIST and datasets in its format."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import ClassVar

import numpy as np

from occ_lab.data.datasets.classes import ClassBenchmark, Classified, Part
from occ_lab.data.items import Item

FILES = {"train": "train", "test": "t10k"}
# Numbers of images of each digit in the training and in the test set.
DIGITS = (
    (5923, 980),
    (6742, 1135),
    (5958, 1032),
    (6131, 1010),
    (5842, 982),
    (5421, 892),
    (5918, 958),
    (6265, 1028),
    (5851, 974),
    (5949, 1009),
)


class MNIST(ClassBenchmark):
    """MNIST (LeCun et al. 1998) as torchvision stores it, all 70,000 digits."""

    layout = "MNIST/raw/{train,t10k}-{images-idx3,labels-idx1}-ubyte"
    source = "https://ossci-datasets.s3.amazonaws.com/mnist/"
    licence = "CC BY-SA 3.0"
    size = "12 MB"
    task_count = "10"
    home = "data"
    folder: ClassVar[str] = "MNIST"
    classes: ClassVar[tuple[str, ...]] = tuple("0123456789")
    sizes: ClassVar[tuple[tuple[int, int], ...]] = DIGITS  # training and test images of a class

    def available(self) -> list[str]:
        """The ten classes if all four files are present; otherwise none."""
        names = (
            f"{file}-{kind}-ubyte"
            for file in FILES.values()
            for kind in ("images-idx3", "labels-idx1")
        )
        found = all((self.root / self.folder / "raw" / name).is_file() for name in names)
        return sorted(self.classes) if found else []

    def class_sizes(self) -> dict[str, tuple[int, int]]:
        """The published numbers of training and test images of each class."""
        return dict(zip(self.classes, self.sizes, strict=True))

    def classified(self, part: Part) -> list[Classified]:
        """All images in the order of the file."""
        raw = self.root / self.folder / "raw"
        labels = read_idx(raw / f"{FILES[part]}-labels-idx1-ubyte")
        images = raw / f"{FILES[part]}-images-idx3-ubyte"
        return [(self.classes[label], images, index) for index, label in enumerate(labels)]

    def read(self, item: Item) -> np.ndarray:
        """An image, uint8 ``[28, 28, 3]``."""
        return np.repeat(read_idx(item.path)[item.index][..., None], 3, axis=-1)


class FashionMNIST(MNIST):
    """Fashion-MNIST (Xiao et al. 2017): ten kinds of clothing in MNIST's format."""

    layout = "FashionMNIST/raw/{train,t10k}-{images-idx3,labels-idx1}-ubyte"
    source = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"
    licence = "MIT"
    size = "31 MB"
    folder = "FashionMNIST"
    classes = (
        "t-shirt",
        "trouser",
        "pullover",
        "dress",
        "coat",
        "sandal",
        "shirt",
        "sneaker",
        "bag",
        "ankle_boot",
    )
    sizes = ((6000, 1000),) * 10


@cache
def read_idx(path: Path) -> np.ndarray:
    """The array in an uncompressed IDX file of bytes: a big-endian header, then the data.

    The format is described on MNIST's page.

    Raises:
        OSError: the file has another format, or its length differs from its header.
    """
    data = np.fromfile(path, np.uint8)
    dimensions = int(data[3]) if len(data) > 4 and data[:3].tolist() == [0, 0, 8] else 0
    shape = data[4 : 4 + 4 * dimensions].view(">u4").tolist()
    values = data[4 + 4 * dimensions :]
    if not dimensions or values.size != np.prod(shape):
        raise OSError(f"{path}: not a complete IDX file of bytes")
    return values.reshape(shape)
