"""The images of one part of a task as samples."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from occ_lab.data.base import Benchmark
from occ_lab.data.images import read_mask
from occ_lab.data.items import Item
from occ_lab.data.transforms import (
    Frame,
    Preprocessing,
    RandomPreprocessing,
    Seen,
    WholeImage,
    contained,
    resized,
)
from occ_lab.data.value_range import eight_bits

Drawn = Literal["always", "once", "never"]


class TaskImages(Dataset[dict[str, Any]]):
    """Images of a benchmark as samples.

    A sample holds ``image`` (float32 ``[3, h, w]`` in 0..1), ``label`` (0 normal, 1 anomalous),
    ``index`` (its index in this dataset), ``path`` and, if ``masks``, ``mask`` (bool ``[h, w]``).
    Where some image leaves a part of the frame free, samples also hold ``box``, int64 ``[4]``: top,
    left, height and width of the image in the frame, in pixels.

    Args:
        benchmark: reads the images.
        items: the images, in order.
        masks: whether samples hold a mask; it is all false for images that have none.
        drawn: when the benchmark's random rotation and crop are drawn: ``always``, from torch's
            generator each time an image is read; ``once`` for each image by the benchmark's
            ``test_seed``; or ``never``.
        frame: how images are brought to one size, see `Benchmark.preprocessing`; None resizes and
            crops them as the benchmark says.
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

    def __len__(self) -> int:
        return len(self.items)

    @property
    def drawing(self) -> list[float] | None:
        """Everything that decides what is drawn once; None if nothing is."""
        given = self.benchmark
        seed = float(given.test_seed or 0)
        return [given.rotate, float(given.random_crop), seed] if self.drawn == "once" else None

    @cached_property
    def boxes(self) -> Tensor | None:
        """Where each image lies in the frame, int64 ``[N, 4]``; None where all images fill it."""
        if not isinstance(self.frame, WholeImage) or not self.items:
            return None
        sizes = map(self.benchmark.image_size, self.items)
        boxes = torch.tensor([self.frame.box(*size) for size in sizes])
        full = torch.tensor([0, 0, *self.frame.size])
        return None if bool((boxes == full).all()) else boxes

    def box_of(self, indices: Sequence[int] | Tensor) -> Tensor | None:
        """Where images lie in the frame, int64 ``[B, 4]``; None where all images fill it."""
        return None if self.boxes is None else self.boxes[torch.as_tensor(indices)]

    def __getitem__(self, index: int) -> dict[str, Any]:
        image = torch.from_numpy(self.pixels(index)).permute(2, 0, 1).contiguous().float() / 255
        return {"image": image, **self.facts(index)}

    def pixels(self, index: int) -> np.ndarray:
        """The preprocessed image alone, uint8 ``[h, w, 3]``."""
        return self.seen(index).pixels

    def image(self, index: int) -> np.ndarray:
        """The image as it is read, uint8 ``[h, w, 3]``."""
        item = self.items[index]
        return eight_bits(self.benchmark.read(item), self.frame.range, item)

    def seen(self, index: int) -> Seen:
        """The preprocessed image, and the size that it had before."""
        image = self.image(index)
        return Seen(self._preprocessing(index)(image), (image.shape[0], image.shape[1]))

    def whole(self, index: int, largest: int) -> dict[str, Any]:
        """The sample at the size of its file, or smaller: at most ``largest`` pixels a side."""
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
        """How an image is preprocessed; a random one is made for it, since threads read images."""
        given = self.benchmark
        if self.drawn == "never":
            return self.frame
        seeds = [given.test_seed or 0, index]
        if self.drawn == "always":
            seeds = torch.randint(2**31, (1,)).tolist()
        seed = int(np.random.SeedSequence(seeds).generate_state(1)[0])
        if isinstance(self.frame, WholeImage):
            return WholeImage(*self.frame.size, given.rotate, seed)
        sides = (self.frame.resize, self.frame.crop)
        return RandomPreprocessing(*sides, given.rotate, given.random_crop, seed)

    def facts(self, index: int) -> dict[str, Any]:
        """The sample without its image."""
        item = self.items[index]
        facts: dict[str, Any] = {"label": item.label, "index": index, "path": str(item)}
        if self.boxes is not None:
            facts["box"] = self.boxes[index]
        return {**facts, "mask": self._mask(index)} if self.masks else facts

    def _mask(self, index: int) -> Tensor:
        path = self.items[index].mask
        if path is None:
            return torch.zeros(self.frame.size, dtype=torch.bool)
        return torch.from_numpy(self._preprocessing(index).of_mask(read_mask(path)))


def frame_without_images(benchmark: Benchmark) -> Frame:
    """The frame of a benchmark that takes no image's size to know it.

    Raises:
        ValueError: whole images are asked for, whose frame depends on the training images.
    """
    if benchmark.crop == "whole":
        raise ValueError("crop='whole' needs a frame: see Benchmark.preprocessing")
    return Preprocessing(benchmark.resize, benchmark.crop, range=benchmark.range)
