"""Batches of preprocessed pixels, read by threads or processes while a device computes."""

from __future__ import annotations

import itertools
import math
import pickle
import shutil
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_all_start_methods, get_context
from multiprocessing.context import BaseContext
from pathlib import Path
from types import ModuleType
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from occ_lab.data.images_dataset import TaskImages

# Processes start in about as many seconds as threads, which share Python's lock, take for so many
# images more than processes do.
PROCESSES_FROM = 3000
PREFETCHED = 2  # batches that each process reads ahead
SHARED_MEMORY = Path("/dev/shm")  # processes pass batches through it
ROOM = 0.5  # the largest fraction of it for these batches

T = TypeVar("T")


def image_batches(
    images: TaskImages,
    device: torch.device,
    batch_size: int,
    workers: int = 0,
    others: Sequence[torch.device] = (),
) -> Iterator[Tensor]:
    """The images of a split in order, read while the caller computes.

    Threads read them: they start at once, pass on pixels without a copy, and decoding and resizing
    release the global interpreter lock. What remains under the lock limits them to about a thousand
    images per second, which does not keep a GPU busy. For a GPU, many images are therefore read by
    processes. Pixels stay 8-bit until they are on the device.

    Args:
        images: the images of a split.
        device: the device for the batches.
        batch_size: the number of images in a batch.
        workers: the number of threads or processes that read images; 0 uses torch's number of
            threads.
        others: further devices, which take turns with the first.

    Yields:
        float32 ``[B, 3, h, w]`` in 0..1, channels-last in memory.

    Raises:
        OSError: an image cannot be read.
    """
    workers = workers or torch.get_num_threads()
    pinned = device.type == "cuda"  # memory that an Nvidia GPU reads while it works
    read = read_by_threads
    if pinned and processes_pay(images, batch_size, workers):
        read = read_by_processes
    devices = itertools.cycle([device, *others])
    for pixels in read(images, batch_size, workers, pinned):
        moved = pixels.to(next(devices), non_blocking=pinned)
        yield moved.permute(0, 3, 1, 2).float() / 255


def read_by_threads(
    images: TaskImages, batch_size: int, workers: int, pinned: bool = False
) -> Iterator[Tensor]:
    """Batches uint8 ``[B, h, w, 3]`` in order; the next one is read while one is used.

    Args:
        images: the images of a split.
        batch_size: the number of images in a batch.
        workers: the number of threads.
        pinned: whether batches are in pinned memory.

    Raises:
        OSError: an image cannot be read.
    """
    with ThreadPoolExecutor(workers) as pool:
        batches: Iterator[list[Future[np.ndarray]]] = (
            [pool.submit(images.pixels, index) for index in indices]
            for indices in parts(len(images), batch_size)
        )
        for batch in one_ahead(batches):
            read = [reading.result() for reading in batch]
            pixels = torch.empty((len(read), *read[0].shape), dtype=torch.uint8, pin_memory=pinned)
            np.stack(read, out=pixels.numpy())
            yield pixels


def read_by_processes(
    images: TaskImages, batch_size: int, workers: int, pinned: bool = False
) -> Iterator[Tensor]:
    """As `read_by_threads`, by processes, which take seconds to start and share no lock.

    Args:
        images: the images of a split; see `processes_pay` for what they must allow.
        batch_size: the number of images in a batch.
        workers: the number of processes.
        pinned: whether batches are in pinned memory.

    Raises:
        OSError: an image cannot be read.
    """
    loader = DataLoader(
        PixelBatches(images, batch_size),
        batch_size=None,
        num_workers=workers,
        prefetch_factor=PREFETCHED,
        pin_memory=pinned,
        multiprocessing_context=_clean_processes(),
        generator=torch.Generator(),  # nothing is drawn from the global one
    )
    with main_hidden():
        batches = iter(loader)
    try:
        for batch in batches:
            if isinstance(batch, OSError):
                raise batch
            yield batch
    finally:
        # Ends the processes. With the traceback of an error, the garbage collector would do it in
        # an order in which each of them is waited for in vain.
        del batches


class PixelBatches(Dataset["Tensor | OSError"]):
    """The batches of `read_by_processes`; an image that cannot be read makes its batch an error.

    (An exception in a process would arrive with a traceback in its message.)

    Args:
        images: the images of a split.
        batch_size: the number of images in a batch.
    """

    def __init__(self, images: TaskImages, batch_size: int) -> None:
        self.images = images
        self.batches = list(parts(len(images), batch_size))

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, index: int) -> Tensor | OSError:
        try:
            return torch.from_numpy(
                np.stack([self.images.pixels(each) for each in self.batches[index]])
            )
        except OSError as error:
            return error


def processes_pay(images: TaskImages, batch_size: int, workers: int) -> bool:
    """Whether processes can read the images, and read them sooner than threads.

    There must be many images, room for their batches in shared memory, and a benchmark that other
    processes can import: not a class of the user's script or notebook itself.

    Args:
        images: the images of a split.
        batch_size: the number of images in a batch.
        workers: the number of processes.
    """
    if len(images) < PROCESSES_FROM or workers < 2:
        return False
    if SHARED_MEMORY.is_dir():
        taken = (1 + PREFETCHED) * workers * batch_size * 3 * math.prod(images.frame.size)
        if taken > ROOM * shutil.disk_usage(SHARED_MEMORY).free:
            return False
    try:
        with main_hidden():
            pickle.dumps(images.benchmark)
    except (pickle.PicklingError, AttributeError, TypeError):
        return False
    return True


def _clean_processes() -> BaseContext:
    """Processes that are not copies of this one, whose threads and devices a copy could not use."""
    if "forkserver" not in get_all_start_methods():  # on Windows
        return get_context("spawn")
    context = get_context("forkserver")
    context.set_forkserver_preload([__name__])  # so that it is imported once
    return context


@contextmanager
def main_hidden() -> Iterator[None]:
    """Processes that start in this block do not import the user's script.

    They would otherwise run it once more, unless it guards against that.
    """
    own = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = own


def parts(count: int, size: int) -> Iterator[range]:
    """The indices below ``count`` in order, ``size`` at a time.

    Example:
        >>> list(parts(5, 2))
        [range(0, 2), range(2, 4), range(4, 5)]
    """
    return (range(count)[start : start + size] for start in range(0, count, size))


def one_ahead(batches: Iterator[list[T]]) -> Iterator[list[T]]:
    """The same batches; each one is started before the previous one is yielded."""
    return (batch for batch, _ in itertools.pairwise(itertools.chain(batches, [[]])))
