"""The images of one part of a task as samples."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from occ_lab.data.base import Benchmark
from occ_lab.data.items import Item
from occ_lab.data.mask_reading import read_mask
from occ_lab.data.tiling import Tiles
from occ_lab.data.transforms import (
    Frame,
    Preprocessing,
    RandomPreprocessing,
    Seen,
    WholeImage,
    contained,
    resized,
    turned,
)
from occ_lab.data.value_range import eight_bits
from occ_lab.utils.memo import Memo

Drawn = Literal["always", "once", "never"]


class TaskImages(Dataset[dict[str, Any]]):
    """Images of a benchmark as samples.

    A sample holds ``image`` (float32 ``[3, h, w]`` in 0..1), ``label`` (0 normal, 1 anomalous),
    ``index`` (its index in this dataset), ``path`` and, if ``masks``, ``mask`` (bool ``[h, w]``).
    If some images do not fill the frame, samples also hold ``box``, int64 ``[4]``: the top, left,
    height and width of the image in the frame, in pixels. With masks of a benchmark that
    ``saturates``, they also hold ``regions``: for each region its pixels, bool ``[h, w]``, and the
    fraction of them that is enough, see `Benchmark.regions`.

    Args:
        benchmark: reads the images.
        items: the images, in order.
        masks: whether samples hold a mask; it is all false for images without a mask file.
        drawn: when the benchmark's random rotation and crop are drawn: ``always``, from torch's
            global generator each time an image is read; ``once`` for each image, by the
            benchmark's ``test_seed``; or ``never``.
        frame: brings images to one size, see `Benchmark.preprocessing`; None resizes and crops
            them as the benchmark says.
    """

    def __init__(
        self,
        benchmark: Benchmark,
        items: list[Item],
        masks: bool = False,
        drawn: Drawn = "never",
        frame: Frame | None = None,
    ) -> None:
        self.benchmark = benchmark
        self.items = items
        self.masks = masks
        self.drawn: Drawn = drawn
        self.frame = frame or frame_without_images(benchmark)
        self.memo: Memo | None = None  # keeps masks for other datasets of the process
        self._last: tuple[Any, np.ndarray] | None = None

    def __getstate__(self) -> dict[str, Any]:
        # What is kept in memory stays in this process; others get the list of images.
        return {**vars(self), "memo": None, "_last": None}

    def __len__(self) -> int:
        return len(self.items)

    @property
    def drawing(self) -> list[float] | None:
        """All values that determine what is drawn once; None if nothing is drawn."""
        given = self.benchmark
        seed = float(given.test_seed or 0)
        return [given.rotate, float(given.random_crop), seed] if self.drawn == "once" else None

    @cached_property
    def boxes(self) -> Tensor | None:
        """The position of each image in the frame, int64 ``[N, 4]``; None if all images fill it."""
        frame = self.frame
        sizes = [(item, self.benchmark.image_size) for item in self.items]
        if isinstance(frame, Tiles):
            own = [frame.box_in(item.tile, size(item)) for item, size in sizes if item.tile]
        elif isinstance(frame, WholeImage):
            own = [frame.box(*size(item)) for item, size in sizes]
        else:
            return None
        if not own:
            return None
        boxes = torch.tensor(own)
        full = torch.tensor([0, 0, *self.frame.size])
        return None if bool((boxes == full).all()) else boxes

    def box_of(self, indices: Sequence[int] | Tensor) -> Tensor | None:
        """The positions of images in the frame, int64 ``[B, 4]``; None if all images fill it."""
        return None if self.boxes is None else self.boxes[torch.as_tensor(indices)]

    def __getitem__(self, index: int) -> dict[str, Any]:
        image = torch.from_numpy(self.pixels(index)).permute(2, 0, 1).contiguous().float() / 255
        return {"image": image, **self.facts(index)}

    def pixels(self, index: int) -> np.ndarray:
        """The preprocessed image alone, uint8 ``[h, w, 3]``."""
        return self.seen(index).pixels

    def image(self, index: int) -> np.ndarray:
        """The image as read, before preprocessing, uint8 ``[h, w, 3]``."""
        item = self.items[index]
        last = self._last  # the tiles of an image are read one after another
        if item.tile is not None and last is not None and last[0] == (item.key, item.turn):
            return last[1]
        pixels = eight_bits(self.benchmark.read(item), self.frame.range, item)
        if item.turn:
            pixels = turned(pixels, item.turn)
        if item.tile is not None:
            self._last = (item.key, item.turn), pixels
        return pixels

    def tiles(self) -> TaskImages:
        """The tiles of all images as samples, in order; without tiles, the images themselves."""
        frame = self.frame
        if not isinstance(frame, Tiles):
            return self
        items = [
            replace(item, tile=origin)
            for item in self.items
            for origin in frame.origins(*self.benchmark.image_size(item))
        ]
        return TaskImages(self.benchmark, items, drawn=self.drawn, frame=frame)

    def seen(self, index: int) -> Seen:
        """The preprocessed image, and its size before preprocessing."""
        image, tile = self.image(index), self.items[index].tile
        size = (image.shape[0], image.shape[1])
        if tile is not None and isinstance(self.frame, Tiles):
            return Seen(self.frame.cut(image, tile), size)
        return Seen(self._preprocessing(index)(image), size)

    def whole(self, index: int, largest: int) -> dict[str, Any]:
        """The sample at the size of its file, reduced to at most ``largest`` pixels a side."""
        item, image = self.items[index], self.image(index)
        size = (image.shape[0], image.shape[1])
        if max(size) > largest:
            size = contained(size, (largest, largest))
        sample = {"path": str(item), "image": resized(image, size, Image.Resampling.LANCZOS)}
        if self.masks:
            shown = np.zeros(size, np.uint8)
            if item.mask is not None:
                mask = read_mask(item.mask).astype(np.uint8)
                shown = resized(mask, size, Image.Resampling.NEAREST)
            sample["mask"] = torch.from_numpy(shown.astype(bool))
        sample["image"] = torch.from_numpy(sample["image"]).permute(2, 0, 1).float() / 255
        return sample

    def _preprocessing(self, index: int) -> Frame:
        """The preprocessing of an image; a random one is a new object, because threads use it."""
        given = self.benchmark
        if self.drawn == "never":
            return self.frame
        seeds = [given.test_seed or 0, index]
        if self.drawn == "always":
            seeds = torch.randint(2**31, (1,)).tolist()
        seed = int(np.random.SeedSequence(seeds).generate_state(1)[0])
        assert not isinstance(self.frame, Tiles)  # they have no random rotation or crop
        if isinstance(self.frame, WholeImage):
            return WholeImage(*self.frame.size, given.rotate, seed)
        sides = (self.frame.resize, self.frame.crop)
        return RandomPreprocessing(*sides, given.rotate, given.random_crop, seed)

    def facts(self, index: int) -> dict[str, Any]:
        """The sample without the image."""
        item = self.items[index]
        facts: dict[str, Any] = {"label": item.label, "index": index, "path": str(item)}
        if self.boxes is not None:
            facts["box"] = self.boxes[index]
        if self.masks:
            facts["mask"] = self._mask(index)
            if self.benchmark.saturates:
                facts["regions"] = self._regions(index)
        return facts

    def _regions(self, index: int) -> list[tuple[Tensor, float]]:
        frame = self._preprocessing(index)
        return [
            (torch.from_numpy(frame.of_mask(each.mask)), each.enough / int(each.mask.sum()))
            for each in self.benchmark.regions(self.items[index])
        ]

    def _mask(self, index: int) -> Tensor:
        path = self.items[index].mask
        if path is None:
            tiled = isinstance(self.frame, Tiles)
            size = self.benchmark.image_size(self.items[index]) if tiled else self.frame.size
            return torch.zeros(size, dtype=torch.bool)
        if self.memo is None:
            return torch.from_numpy(self._preprocessing(index).of_mask(read_mask(path)))
        status, drawn = path.stat(), None if self.drawing is None else [*self.drawing, index]
        key = f"{path.absolute()} {status.st_size} {status.st_mtime_ns} {self.frame} {drawn}"
        kept: tuple[np.ndarray, tuple[int, ...]] | None = self.memo.get(key)
        if kept is None:
            mask = self._preprocessing(index).of_mask(read_mask(path))
            self.memo.keep(key, (np.packbits(mask), mask.shape))
        else:
            bits, shape = kept
            mask = np.unpackbits(bits, count=math.prod(shape)).reshape(shape).astype(bool)
        return torch.from_numpy(mask)


def frame_without_images(benchmark: Benchmark) -> Frame:
    """The frame of a benchmark, if it can be known without reading any image.

    Raises:
        ValueError: whole images are used, so the frame depends on the training images.
    """
    if benchmark.crop == "whole":
        raise ValueError("crop='whole' needs a frame: see Benchmark.preprocessing")
    return Preprocessing(benchmark.resize, benchmark.crop, range=benchmark.range)
