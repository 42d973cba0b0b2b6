"""MNIST and datasets in its format."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np

from occ_lab.data.base import Item
from occ_lab.data.semantic import ClassBenchmark, Part

FILES = {"train": "train", "test": "t10k"}


class MNIST(ClassBenchmark):
    """MNIST (LeCun et al. 1998) as torchvision keeps it, all 70,000 digits."""

    layout = "MNIST/raw/{train,t10k}-{images-idx3,labels-idx1}-ubyte"
    source = "torchvision.datasets.MNIST(root, download=True)"
    licence = "CC BY-SA 3.0"
    folder = "MNIST"

    def available(self) -> list[str]:
        """The ten digits, where all four files are there."""
        names = (
            f"{file}-{kind}-ubyte"
            for file in FILES.values()
            for kind in ("images-idx3", "labels-idx1")
        )
        found = all((self.root / self.folder / "raw" / name).is_file() for name in names)
        return [str(digit) for digit in range(10)] if found else []

    def classified(self, part: Part) -> list[tuple[str, Path, int | None]]:
        """All digits in the order of the file."""
        raw = self.root / self.folder / "raw"
        labels = read_idx(raw / f"{FILES[part]}-labels-idx1-ubyte")
        images = raw / f"{FILES[part]}-images-idx3-ubyte"
        return [(str(label), images, place) for place, label in enumerate(labels)]

    def read(self, item: Item) -> np.ndarray:
        """A digit, uint8 ``[28, 28, 3]``."""
        return np.repeat(read_idx(item.path)[item.place][..., None], 3, axis=-1)


@cache
def read_idx(path: Path) -> np.ndarray:
    """An uncompressed IDX file of bytes: a big-endian header, then the data (as MNIST's page says).

    Raises:
        OSError: it is none, or shorter or longer than its header says.
    """
    data = np.fromfile(path, np.uint8)
    dimensions = int(data[3]) if len(data) > 4 and data[:3].tolist() == [0, 0, 8] else 0
    shape = data[4 : 4 + 4 * dimensions].view(">u4").tolist()
    values = data[4 + 4 * dimensions :]
    if not dimensions or values.size != np.prod(shape):
        raise OSError(f"{path}: no whole IDX file of bytes")
    return values.reshape(shape)
