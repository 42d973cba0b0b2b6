"""The LightningDataModule of one task of any benchmark."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import torch
from lightning import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, DistributedSampler, Sampler, default_collate

from occ_lab.data.base import Benchmark
from occ_lab.data.images import preprocess, random_preprocess, read_mask
from occ_lab.data.items import Item, Split
from occ_lab.data.validation import check_split
from occ_lab.utils.errors import InputError

Drawn = Literal["anew", "once", "never"]


class TaskImages(Dataset):
    """The images of one split as samples.

    A sample holds ``image`` (float32 ``[3, h, w]`` in 0..1), ``label`` (0 normal, 1 anomalous),
    ``index`` (its place in the split), ``path`` and, if ``masks``, ``mask`` (bool ``[h, w]``).

    Args:
        benchmark: reads the images and says how they are sized.
        items: the images, in order.
        masks: whether samples hold a mask; all false for images that have none.
        drawn: the benchmark's random rotation and crop: ``anew`` from torch's generator whenever an
            image is read, ``once`` for each image by the benchmark's ``test_seed``, or ``never``.
    """

    def __init__(
        self, benchmark: Benchmark, items: list[Item], masks: bool, drawn: Drawn = "never"
    ) -> None:
        self.benchmark = benchmark
        self.items = items
        self.masks = masks
        self.drawn = drawn
        self.still = preprocess(benchmark.resize, benchmark.crop)

    def __len__(self) -> int:
        return len(self.items)

    @property
    def drawing(self) -> list[float] | None:
        """All that decides what is drawn once; None where nothing is."""
        given = self.benchmark
        seed = float(given.test_seed or 0)
        return [given.rotate, float(given.random_crop), seed] if self.drawn == "once" else None

    def __getitem__(self, index: int) -> dict[str, Any]:
        image = torch.from_numpy(self.pixels(index)).permute(2, 0, 1).contiguous().float() / 255
        return {"image": image, **self.facts(index)}

    def pixels(self, index: int) -> np.ndarray:
        """The preprocessed image alone, uint8 ``[h, w, 3]``."""
        return self._transform(index)(image=self.benchmark.read(self.items[index]))["image"]

    def _transform(self, index: int) -> Callable[..., dict[str, np.ndarray]]:
        """What an image goes through; a random one is made for it, since threads read images."""
        if self.drawn == "never":
            return self.still
        seeds = [self.benchmark.test_seed or 0, index]
        if self.drawn == "anew":
            seeds = torch.randint(2**31, (1,)).tolist()
        return random_preprocess(
            self.benchmark.resize,
            self.benchmark.crop,
            self.benchmark.rotate,
            self.benchmark.random_crop,
            int(np.random.SeedSequence(seeds).generate_state(1)[0]),
        )

    def facts(self, index: int) -> dict[str, Any]:
        """The sample but for its image."""
        item = self.items[index]
        facts = {"label": item.label, "index": index, "path": str(item)}
        return {**facts, "mask": self._mask(index)} if self.masks else facts

    def _mask(self, index: int) -> Tensor:
        item = self.items[index]
        if item.mask is None:
            return torch.zeros(self.benchmark.crop, self.benchmark.crop, dtype=torch.bool)
        mask = read_mask(item.mask).astype("uint8")
        return torch.from_numpy(self._transform(index)(image=mask, mask=mask)["mask"]).bool()


class TaskData(LightningDataModule):
    """Loaders over one task of a benchmark; training batches hold normal images only.

    They go over ``train_set`` and ``test_set``: the images, unless their features are put there.

    Args:
        benchmark: where the images come from and how they are sized.
        task: one of the benchmark's tasks.
        batch_size: images in a training batch.
        eval_batch_size: images in a batch of any pass without gradients.
        workers: processes that read images; 0 reads them in the main process.
    """

    def __init__(
        self,
        benchmark: Benchmark,
        task: str,
        batch_size: int,
        eval_batch_size: int = 32,
        workers: int = 0,
    ) -> None:
        super().__init__()
        self.benchmark = benchmark
        self.task = task
        self.batch_size = batch_size
        self.eval_batch_size = eval_batch_size
        self.workers = workers
        self.split: Split = benchmark.split(task)
        fixed = benchmark.random and benchmark.test_seed is not None
        self.train_images = TaskImages(
            benchmark, self.split.train, masks=False, drawn="anew" if benchmark.random else "never"
        )
        self.test_images = TaskImages(
            benchmark, self.split.test, self.split.has_masks, drawn="once" if fixed else "never"
        )
        self.calibration_images = TaskImages(benchmark, [], masks=False)
        self.rank, self.processes, self.equal_shares = 0, 1, True
        self.train_set: Dataset = self.train_images
        self.test_set: Dataset = self.test_images
        self.calibration_set: Dataset = self.calibration_images

    def set_aside(self, places: Sequence[int]) -> None:
        """Keep some of the training images out of training, to calibrate on.

        They are shown as test images are. To be called before features are put in their place.

        Args:
            places: of these images in the split.
        """
        aside = set(places)
        every = self.split.train
        kept = [item for place, item in enumerate(every) if place not in aside]
        self.split = replace(self.split, train=kept, pool=self.split.pool or every)
        self.train_images = TaskImages(
            self.benchmark, kept, masks=False, drawn=self.train_images.drawn
        )
        self.train_set = self.train_images
        items = [every[place] for place in sorted(aside)]
        self.calibration_images = TaskImages(
            self.benchmark, items, masks=False, drawn=self.test_images.drawn
        )
        self.calibration_set = self.calibration_images

    def share(self, rank: int, processes: int, equal: bool) -> None:
        """Let this process have its share of the training and of the test images.

        No test image is in two shares. Where ``equal``, as steps by gradient want it, a training
        image may be in two to make shares equal; else none is.

        Args:
            rank: of this process, from 0.
            processes: how many share the images.
            equal: whether all must have as many training images.

        Raises:
            InputError: there are fewer images than processes.
        """
        fewest = min(len(self.train_images), len(self.test_images))
        if processes > fewest:
            raise InputError(f"trainer.devices: {processes} processes for {fewest} images")
        self.rank, self.processes, self.equal_shares = rank, processes, equal

    def prepare_data(self) -> None:
        """Look at every file before any work; see `check_split`."""
        check_split(self.task, self.split)

    def train_dataloader(self) -> DataLoader:
        """Shuffled batches of normal images, of this process's share."""
        if self.processes == 1:
            return self._loader(self.train_set, self.batch_size, shuffle=True)
        sampler: Sampler = (
            DistributedSampler(self.train_set, self.processes, self.rank, shuffle=True)
            if self.equal_shares
            else EveryNth(len(self.train_images), self.rank, self.processes)
        )
        return self._loader(self.train_set, self.batch_size, sampler)

    def resumable_dataloader(self, seed: int) -> DataLoader:
        """Shuffled batches of one size, the same whenever an epoch is begun again.

        Lightning tells the sampler the epoch, which with ``seed`` decides the order. Of fewer
        images than a batch has, all are in one batch. A pass that begins draws nothing from torch's
        global generator: Lightning begins the first one of a training, resumed or not, at another
        time than those after it. (Not the same is what worker processes draw of images that are
        drawn anew.)
        """
        sampler: Sampler = DistributedSampler(
            self.train_set, self.processes, self.rank, shuffle=True, seed=seed
        )
        size = min(self.batch_size, len(sampler))  # type: ignore[arg-type]
        loader = self._loader(self.train_set, size, sampler, drop_last=True)
        loader.generator = torch.Generator().manual_seed(seed)
        return loader

    def setup_dataloader(self) -> DataLoader:
        """One pass over the training images in order, all of them in every process."""
        return self._loader(self.train_set, self.eval_batch_size)

    def calibration_dataloader(self) -> DataLoader:
        """One pass over the images that were set aside, in order, all of them in every process."""
        return self._loader(self.calibration_set, self.eval_batch_size)

    def test_dataloader(self) -> DataLoader:
        """The test images in order, of this process's share."""
        sampler = EveryNth(len(self.test_images), self.rank, self.processes)
        return self._loader(self.test_set, self.eval_batch_size, sampler)

    def _loader(
        self,
        images: Dataset,
        batch_size: int,
        sampler: Sampler | None = None,
        shuffle: bool = False,
        drop_last: bool = False,
    ) -> DataLoader:
        return DataLoader(
            images,
            batch_size=batch_size,
            shuffle=shuffle,
            sampler=sampler,
            drop_last=drop_last,
            num_workers=self.workers,
            persistent_workers=self.workers > 0,
            collate_fn=collate,
        )


class EveryNth(Sampler):
    """Every n-th index, from a first one on: a share with nothing twice and nothing left out.

    (`torch.utils.data.DistributedSampler` repeats images to make shares equal.)
    """

    def __init__(self, count: int, first: int, step: int) -> None:
        self.indices = range(first, count, step)

    def __iter__(self) -> Iterator[int]:
        return iter(self.indices)

    def __len__(self) -> int:
        return len(self.indices)


def collate(samples: list[dict[str, Any]] | dict[str, Any]) -> dict[str, Any]:
    """Samples to a batch; a dataset that reads whole batches has done it already."""
    return samples if isinstance(samples, dict) else default_collate(samples)
