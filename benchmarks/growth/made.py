"""A benchmark of any number of images that are made when they are read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from occ_lab.data.base import Benchmark, Crop
from occ_lab.data.generated import made_image
from occ_lab.data.items import Item, Split

DIFFERENT = 16  # images that are made; others are these, shifted


class MadeImages(Benchmark):
    """Square images of shapes and grain; every other test image has a square that is marked.

    Only the masks and one file that stands for all images exist.

    Args:
        root: an empty folder.
        train: the number of training images of a task.
        test: the number of its test images.
        side: their height and width in pixels.
        count: the number of tasks.
        crop: as in `Benchmark`; by default the whole side.
        tile: as in `Benchmark`.
    """

    licence = "generated"

    def __init__(
        self,
        root: Path,
        train: int,
        test: int,
        side: int,
        count: int = 1,
        crop: Crop | None = None,
        tile: int | None = None,
    ) -> None:
        super().__init__(root=root, resize=side, crop=crop or side, tile=tile)
        self.train, self.test, self.side, self.count = train, test, side, count
        self.pool = [made_image(seed, side, side) for seed in range(min(DIFFERENT, train))]
        self.square = slice(side // 4, side // 2)
        mask = np.zeros((side, side), np.uint8)
        mask[self.square, self.square] = 255
        root.mkdir(parents=True, exist_ok=True)
        self.packed, self.mask = root / "images.bin", root / "mask.png"
        self.packed.touch()
        Image.fromarray(mask).save(self.mask)

    def available(self) -> list[str]:
        """The names of the tasks."""
        return [f"{number:03}" for number in range(self.count)]

    def published_split(self, task: str) -> Split:
        """See `Benchmark`; no two tasks have an image in common."""
        every = self.train + self.test
        first = int(task) * every
        train = [Item(self.packed, 0, None, first + index) for index in range(self.train)]
        test = [
            Item(self.packed, index % 2, self.mask if index % 2 else None, first + index)
            for index in range(self.train, every)
        ]
        return Split(train, test)

    def read(self, item: Item) -> np.ndarray:
        """An image, with its square if it is anomalous."""
        assert item.index is not None
        base = self.pool[item.index % len(self.pool)]
        pixels = np.roll(base, item.index // len(self.pool), axis=1)
        if item.label:
            pixels[self.square, self.square] = 255 - pixels[self.square, self.square]
        return pixels
