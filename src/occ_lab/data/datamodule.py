"""The LightningDataModule of one task of a benchmark."""

from __future__ import annotations

import logging
from collections.abc import Collection
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from lightning import LightningDataModule
from torch.utils.data import DataLoader, Dataset, DistributedSampler, Sampler

from occ_lab.data.base import Benchmark, Kind
from occ_lab.data.images_dataset import Drawn, TaskImages
from occ_lab.data.items import Item, Split
from occ_lab.data.loading import EveryNth, ImageByImage, Shuffled, collate
from occ_lab.data.notes import notes
from occ_lab.data.tiled_images import TiledImages, image_samples, tile_edges
from occ_lab.data.transforms import Frame
from occ_lab.data.validation import check_split
from occ_lab.utils.errors import InputError, check_number

log = logging.getLogger(__name__)

Loader = DataLoader[dict[str, Any]]


class AnomalyDataModule(LightningDataModule):
    """The data loaders of one task: batches of normal training images, and the test images.

    A batch holds ``image`` (float32 ``[B, 3, h, w]`` in 0..1), ``label`` (int ``[B]``: 0 normal,
    1 anomalous), ``index`` (int ``[B]``, in the dataset), ``path`` and, for the test images of a
    task with masks, ``mask`` (bool ``[B, h, w]``). If whole images of several shapes are used, it
    also holds ``box`` (int ``[B, 4]``): the top, left, height and width of each image in h × w. A
    benchmark with saturating regions adds ``regions``, see `TaskImages`.
    With tiles, a training batch holds tiles, and a test batch holds one image, see `TiledImages`.

    The processes of a `lightning.Trainer` share the images. Each test image is read exactly once.

    Args:
        benchmark: provides the images and says how they are resized and cropped.
        task: one of the benchmark's tasks; None is the task that its ``category`` selects.
        batch_size: the number of images in a training batch of one process.
        eval_batch_size: the number of images in a batch of any pass without gradients.
        workers: the number of processes that read images; 0 reads them in the main process.
        validation: the fraction of the normal training images that is held out for validation, at
            least 0 and below 1. The benchmark's ``sample_seed`` decides which.

    Attributes:
        preprocessing: brings test images to the size of a batch.
        split: the training and test images, without the held-out ones.
        train_images: the training images as a dataset; likewise ``validation_images``,
            ``calibration_images`` and ``test_images``.
        train_set: the samples of the training batches: ``train_images``, their tiles, or a dataset
            of the same length that replaces them, such as one of cached features; likewise
            ``validation_set``. A sample of ``calibration_set`` and ``test_set`` is always an
            image, see `TiledImages`.

    Raises:
        InputError: the data is missing, or there are several tasks and none is named.
        ValueError: a value is out of range.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> from occ_lab.data.datasets.textures import Textures
        >>> with TemporaryDirectory() as folder:
        ...     few = {"train": 3, "normal": 1, "defective": 2}
        ...     bricks = Textures(root=folder, category="brick", resize=64, crop=64, **few)
        ...     data = AnomalyDataModule(bricks, batch_size=2)
        ...     [len(batch["label"]) for batch in data.train_dataloader()]
        ...     next(iter(data.test_dataloader()))["image"].shape
        [2, 1]
        torch.Size([3, 3, 64, 64])
    """

    def __init__(
        self,
        benchmark: Benchmark,
        task: str | None = None,
        batch_size: int = 16,
        eval_batch_size: int = 32,
        workers: int = 0,
        validation: float = 0.0,
    ) -> None:
        super().__init__()
        check_number("batch_size", batch_size, at_least=1, integer=True)
        check_number("eval_batch_size", eval_batch_size, at_least=1, integer=True)
        check_number("workers", workers, at_least=0, integer=True)
        check_number("validation", validation, at_least=0, at_most=0.99)
        self.benchmark = benchmark
        self.task = only_task(benchmark) if task is None else task
        self.batch_size = batch_size
        self.eval_batch_size = eval_batch_size
        self.workers = workers
        self.validation = validation
        self._whole: Split = benchmark.split(self.task)
        self._checked = False
        self._drawn: Drawn = (  # the rotation and crop of images that are not training images
            "once" if benchmark.random and benchmark.test_seed is not None else "never"
        )
        self.preprocessing: Frame = benchmark.preprocessing(self.task)
        self.test_images = self._images(self._whole.test, self._drawn, self._whole.has_masks)
        self.test_set: Dataset[Any] = image_samples(self.test_images)
        self.set_aside([])

    @property
    def kind(self) -> Kind:
        """``structured`` or ``semantic``, see `Benchmark`."""
        return self.benchmark.kind

    def _images(self, items: list[Item], drawn: Drawn, masks: bool = False) -> TaskImages:
        return TaskImages(self.benchmark, items, masks, drawn, self.preprocessing)

    def set_aside(self, indices: Collection[int]) -> None:
        """Keep some images out of training and validation, in order to calibrate on them.

        If there are none, the images that the benchmark itself keeps apart take their role. They
        are preprocessed like test images. A later call replaces an earlier one. Call this method
        before cached features replace the images.

        Args:
            indices: the indices of these images in ``benchmark.split(task).train``.

        Raises:
            InputError: no image would be left to train on.
            ValueError: an index is out of range.
        """
        every, aside = self._whole.train, sorted(set(indices))
        if aside and not 0 <= aside[0] <= aside[-1] < len(every):
            raise ValueError(
                f"indices must be in 0..{len(every) - 1}, got {aside[0]} to {aside[-1]}"
            )
        rest = [every[index] for index in sorted(set(range(len(every))) - set(aside))]
        train, validation = held_out(rest, self.validation, self.benchmark.sample_seed)
        if every and not train:
            raise InputError(f"indices: all {len(every)} training images are set aside")
        self.split = (
            replace(self._whole, train=train, pool=self._whole.pool or every)
            if len(train) < len(every)
            else self._whole
        )
        drawn: Drawn = "always" if self.benchmark.random else "never"
        self.train_images = self._images(train, drawn)
        self.validation_images = self._images(validation, self._drawn)
        kept = [every[index] for index in aside] or self._whole.validation
        self.calibration_images = self._images(kept, self._drawn)
        self.train_set: Dataset[Any] = self.train_images.tiles()
        self.validation_set: Dataset[Any] = self.validation_images.tiles()
        self.calibration_set: Dataset[Any] = image_samples(self.calibration_images)

    @property
    def processes(self) -> int:
        """The number of processes that share the images: those of the trainer, or 1 without one."""
        return self.trainer.world_size if self.trainer else 1

    @property
    def rank(self) -> int:
        """The rank of this process among them."""
        return self.trainer.global_rank if self.trainer else 0

    @property
    def _on_cuda(self) -> bool:
        """Whether batches are copied to an Nvidia GPU, which reads pinned memory while it works."""
        return self.trainer is not None and self.trainer.strategy.root_device.type == "cuda"

    @property
    def equal(self) -> bool:
        """Whether each process needs the same number of training images, as gradient steps do."""
        module = self.trainer.lightning_module if self.trainer else None
        return module is None or module.automatic_optimization

    @property
    def in_order(self) -> bool:
        """Whether the objective takes the training images in order, see `Objective.in_order`."""
        module = self.trainer.lightning_module if self.trainer else None
        return bool(getattr(getattr(module, "objective", None), "in_order", False))

    def prepare_data(self) -> None:
        """Check every file before any work, see `check_split`, and log the `notes`.

        A second call does nothing.

        Raises:
            InputError: some files cannot be used.
        """
        if not self._checked:
            check_split(self.task, self._whole)
            said = self.benchmark.said  # by other data modules of the same run, e.g. for folds
            for note in notes(self.benchmark, self.task, self._whole, self.preprocessing.range):
                if (self.task, note) not in said:
                    said.add((self.task, note))
                    log.info("%s: %s", self.task, note)
            self._checked = True

    def setup(self, stage: str) -> None:
        """Check that every process gets images.

        Raises:
            InputError: there are fewer images than processes.
        """
        parts = (self.train_images, self.test_images, self.validation_images)
        fewest = min(len(images) for images in parts if len(images))
        if self.processes > fewest:
            raise InputError(f"devices: {self.processes} processes for {fewest} images", "trainer")

    def train_dataloader(self) -> Loader:
        """Batches of the training images, which the processes share.

        They are shuffled, unless an objective that learns in one pass takes them in order.

        All processes together have ``batch_size`` images in a gradient step, or as near to that
        number as the number of processes allows.
        """
        if self.processes == 1:
            samples = self.train_set
            if self.in_order:
                return self._loader(samples, self.batch_size, EveryNth(sized(samples)))
            if isinstance(samples, TaskImages) and samples is not self.train_images:  # tiles
                by_image = ImageByImage(tile_edges(self.train_images))
                return self._loader(samples, self.batch_size, by_image)
            return self._loader(samples, self.batch_size, shuffle=True)
        if not self.equal:
            return self._loader(self.train_set, self.batch_size, self._share(sized(self.train_set)))
        own = max(1, round(self.batch_size / self.processes))
        if own * self.processes != self.batch_size:
            log.info(
                "batch_size: a step has %d images on each of %d processes, and not %d in all",
                *(own, self.processes, self.batch_size),
            )
        sampler = Shuffled(sized(self.train_set), self.rank, self.processes)
        return self._loader(self.train_set, own, sampler)

    def resumable_dataloader(self, seed: int) -> Loader:
        """Shuffled batches of equal size that are the same whenever an epoch is started again.

        Lightning sets the epoch of the sampler, which together with ``seed`` determines the order.
        If there are fewer images than ``batch_size``, one batch holds all of them. The start of a
        pass draws nothing from torch's global generator, because Lightning starts the first pass of
        a training, resumed or not, at another time than the later ones. (Random rotations and crops
        that worker processes draw in each epoch do differ.)

        Args:
            seed: the seed of the order of the images.
        """
        sampler: DistributedSampler[Any] = DistributedSampler(
            self.train_set, self.processes, self.rank, shuffle=True, seed=seed
        )
        size = min(self.batch_size, len(sampler))
        generator = torch.Generator().manual_seed(seed)
        return self._loader(self.train_set, size, sampler, drop_last=True, generator=generator)

    def val_dataloader(self) -> Loader | list[Loader]:
        """The held-out normal images in order, shared by the processes; an empty list if none."""
        if not len(self.validation_images):
            return []
        return self._quiet_loader(self.validation_set, self._share(sized(self.validation_set)))

    def test_dataloader(self) -> Loader:
        """The test images in order, shared by the processes."""
        return self._quiet_loader(self.test_set, self._share(len(self.test_images)))

    def predict_dataloader(self) -> Loader:
        """The same loader as `test_dataloader`."""
        return self.test_dataloader()

    def setup_dataloader(self) -> Loader:
        """One pass over all training images in order, in every process."""
        sampler = EveryNth(sized(self.train_set))
        return self._loader(self.train_set, self.eval_batch_size, sampler)

    def calibration_dataloader(self) -> Loader:
        """One pass over all images to calibrate on, in order, in every process."""
        return self._quiet_loader(self.calibration_set, EveryNth(len(self.calibration_images)))

    def _share(self, count: int) -> EveryNth:
        return EveryNth(count, self.rank, self.processes)

    def _quiet_loader(self, images: Dataset[Any], sampler: EveryNth) -> Loader:
        """Batches in order; a pass draws nothing from torch's global generator.

        Otherwise the training batches would depend on whether other images are read.
        """
        return self._loader(images, self.eval_batch_size, sampler, generator=torch.Generator())

    def _loader(
        self,
        images: Dataset[Any],
        batch_size: int,
        sampler: Sampler[int] | None = None,
        shuffle: bool = False,
        drop_last: bool = False,
        generator: torch.Generator | None = None,
    ) -> Loader:
        # What is on the device already can be neither pinned nor read by other processes.
        resident = getattr(images, "resident", False)
        workers = 0 if resident else self.workers
        return DataLoader(
            images,
            batch_size=1 if isinstance(images, TiledImages) else batch_size,
            shuffle=shuffle,
            sampler=sampler,
            drop_last=drop_last,
            num_workers=workers,
            persistent_workers=workers > 0,
            pin_memory=self._on_cuda and not resident,
            collate_fn=collate,
            generator=generator,
        )


def sized(samples: Dataset[Any]) -> int:
    """The number of samples of a dataset."""
    return len(samples)  # type: ignore[arg-type]  # all of ours have a length


def only_task(benchmark: Benchmark) -> str:
    """The task that the benchmark's ``category`` selects.

    Raises:
        InputError: the data is missing, or ``category`` selects several tasks.
    """
    tasks = benchmark.tasks()
    if len(tasks) > 1:
        raise InputError(
            f"category: {benchmark.name} has {len(tasks)} tasks here ({', '.join(tasks)}), and a "
            "data module holds one: name it",
            part="dataset",
        )
    return tasks[0]


def held_out(items: list[Item], fraction: float, seed: int) -> tuple[list[Item], list[Item]]:
    """Split images into those to train on and a random fraction of normal ones to validate on.

    Args:
        items: the images to choose from; both parts keep their order.
        fraction: the fraction of all images to hold out, rounded to whole images; at least one
            image is held out unless it is 0.
        seed: the seed of the choice.

    Raises:
        InputError: no normal image would be left to train on.
    """
    if not fraction:
        return items, []
    normal = list(dict.fromkeys(item.key for item in items if item.label == 0))
    count = max(1, round(fraction * len({item.key for item in items})))
    if count >= len(normal):
        raise InputError(
            f"validation: {fraction:g} of {len(items)} training images leaves none to train on",
            part="loader",
        )
    order = np.random.default_rng(seed).permutation(len(normal))
    chosen = {normal[index] for index in order[:count]}
    return (
        [item for item in items if item.key not in chosen],
        [item for item in items if item.key in chosen],
    )
