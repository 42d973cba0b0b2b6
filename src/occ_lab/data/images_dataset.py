"""The images of one part of a task as samples."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from occ_lab.data.base import Benchmark
from occ_lab.data.images import read_mask
from occ_lab.data.items import Item
from occ_lab.data.transforms import Preprocessing, RandomPreprocessing

Drawn = Literal["always", "once", "never"]


class TaskImages(Dataset[dict[str, Any]]):
    """Images of a benchmark as samples.

    A sample holds ``image`` (float32 ``[3, h, w]`` in 0..1), ``label`` (0 normal, 1 anomalous),
    ``index`` (its index in this dataset), ``path`` and, if ``masks``, ``mask`` (bool ``[h, w]``).

    Args:
        benchmark: reads the images and says how they are resized and cropped.
        items: the images, in order.
        masks: whether samples hold a mask; it is all false for images that have none.
        drawn: when the benchmark's random rotation and crop are drawn: ``always``, from torch's
            generator each time an image is read; ``once`` for each image by the benchmark's
            ``test_seed``; or ``never``.
    """

    def __init__(
        self, benchmark: Benchmark, items: list[Item], masks: bool = False, drawn: Drawn = "never"
    ) -> None:
        self.benchmark = benchmark
        self.items = items
        self.masks = masks
        self.drawn: Drawn = drawn

    def __len__(self) -> int:
        return len(self.items)

    @property
    def drawing(self) -> list[float] | None:
        """Everything that decides what is drawn once; None if nothing is."""
        given = self.benchmark
        seed = float(given.test_seed or 0)
        return [given.rotate, float(given.random_crop), seed] if self.drawn == "once" else None

    def __getitem__(self, index: int) -> dict[str, Any]:
        image = torch.from_numpy(self.pixels(index)).permute(2, 0, 1).contiguous().float() / 255
        return {"image": image, **self.facts(index)}

    def pixels(self, index: int) -> np.ndarray:
        """The preprocessed image alone, uint8 ``[h, w, 3]``."""
        return self._preprocessing(index)(self.benchmark.read(self.items[index]))

    def _preprocessing(self, index: int) -> Preprocessing:
        """How an image is preprocessed; a random one is made for it, since threads read images."""
        given = self.benchmark
        if self.drawn == "never":
            return Preprocessing(given.resize, given.crop)
        seeds = [given.test_seed or 0, index]
        if self.drawn == "always":
            seeds = torch.randint(2**31, (1,)).tolist()
        seed = int(np.random.SeedSequence(seeds).generate_state(1)[0])
        return RandomPreprocessing(given.resize, given.crop, given.rotate, given.random_crop, seed)

    def facts(self, index: int) -> dict[str, Any]:
        """The sample without its image."""
        item = self.items[index]
        facts = {"label": item.label, "index": index, "path": str(item)}
        return {**facts, "mask": self._mask(index)} if self.masks else facts

    def _mask(self, index: int) -> Tensor:
        path = self.items[index].mask
        if path is None:
            return torch.zeros(self.benchmark.crop, self.benchmark.crop, dtype=torch.bool)
        return torch.from_numpy(self._preprocessing(index).of_mask(read_mask(path)))
