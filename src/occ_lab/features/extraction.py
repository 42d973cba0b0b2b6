"""One pass of a frozen backbone over images, stored in the feature cache."""

from __future__ import annotations

import copy
import itertools
import logging
import math
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import PIL
import timm
import torch
from torch import Tensor

from occ_lab.backbones.base import FrozenBackbone
from occ_lab.data.datamodule import AnomalyDataModule
from occ_lab.data.images_dataset import TaskImages
from occ_lab.data.pixel_batches import image_batches
from occ_lab.data.tiled_images import image_samples
from occ_lab.data.transforms import describe_frame
from occ_lab.features.cache import FeatureCache, digest
from occ_lab.features.dataset import TaskFeatures, on_device
from occ_lab.features.entry_lock import CacheError
from occ_lab.features.joined import joined
from occ_lab.features.level_files import Levels
from occ_lab.features.regions import framed_levels
from occ_lab.utils.progress import track
from occ_lab.utils.source import code_of

log = logging.getLogger(__name__)

# A GPU gets so many times as many images at once, up to so many pixels: starting the kernels for
# a few small images takes longer than running them.
GPU_BATCHES, GPU_PIXELS = 4, 2**23
FORMAT = 4  # of the entries; raise it when their content or computation changes


def use_features(
    data: AnomalyDataModule,
    cache: FeatureCache,
    backbone: FrozenBackbone,
    device: torch.device,
    others: Sequence[torch.device] = (),
) -> None:
    """Replace the unchanging images of a data module by cached features.

    If the benchmark rotates or crops training images at random, only the test images are replaced.
    If the cache cannot be used, a warning is logged, the images stay, and their features are
    computed in every pass.

    Args:
        data: its ``train_set``, ``validation_set``, ``calibration_set`` and ``test_set`` are
            replaced.
        cache: stores the features.
        backbone: the frozen network; it is moved to ``device``.
        device: the device for the backbone; a GPU keeps the features if they fit, see `on_device`.
        others: further devices of this machine, which compute their part of the batches.

    Raises:
        OSError: an image cannot be read.
    """
    try:
        replace_images(data, cache, backbone, device, others)
    except CacheError as error:
        log.warning("cache: %s; features are computed in every pass", error)


def replace_images(
    data: AnomalyDataModule,
    cache: FeatureCache,
    backbone: FrozenBackbone,
    device: torch.device,
    others: Sequence[torch.device] = (),
) -> None:
    """As `use_features`, with the same arguments, but without handling a failing cache.

    Raises:
        CacheError: the cache cannot be used.
    """

    def features(images: TaskImages, title: str) -> tuple[Levels, str]:
        sizes = data.eval_batch_size, data.workers
        return cached_features(cache, backbone, images, device, *sizes, title, others)

    if data.benchmark.random:
        log.info("cache: only for test images, because training images change in every epoch")
    else:
        # Those of several tasks are the entries that a model for each of them would have.
        own = data.split.pool or data.split.train
        parts = [*(data.split.parts or {"": own}).values(), data.split.validation]
        frame = data.preprocessing
        pools = [TaskImages(data.benchmark, part, frame=frame).tiles() for part in parts if part]
        items = itertools.chain.from_iterable(pool.items for pool in pools)
        rows = {item: row for row, item in enumerate(items)}
        entries = [features(pool, "train features") for pool in pools]
        levels = on_device(joined([levels for levels, _ in entries]), device)
        identity = " ".join(name for _, name in entries)

        def of_pool(images: TaskImages) -> TaskFeatures:
            own = images.tiles()
            mine = np.array([rows[item] for item in own.items], int)
            return TaskFeatures(levels, own, mine, identity)

        data.train_set = of_pool(data.train_images)
        data.validation_set = of_pool(data.validation_images)
        aside = data.calibration_images
        data.calibration_set = image_samples(aside, of_pool(aside))
    tiles = data.test_images.tiles()
    of_tests, identity = features(tiles, "test features")
    tested = TaskFeatures(on_device(of_tests, device), tiles, identity=identity)
    data.test_set = image_samples(data.test_images, tested)


def cached_features(
    cache: FeatureCache,
    backbone: FrozenBackbone,
    images: TaskImages,
    device: torch.device,
    batch_size: int,
    workers: int,
    title: str,
    others: Sequence[torch.device] = (),
) -> tuple[Levels, str]:
    """The backbone's levels of every image, from the cache or computed in one pass.

    Args:
        cache: stores the features.
        backbone: the frozen network; it is moved to ``device``.
        images: the images of a split.
        device: the device for the backbone.
        batch_size: the number of images in a batch; on a GPU it may be larger, see
            `batch_size_on`.
        workers: the number of threads or processes that read images, see `image_batches`.
        title: the title of the progress bar.
        others: further devices of this machine; batches go to all devices in turn.

    Returns:
        One array for each level, finest first, float16 ``[N, H_l, W_l, C_l]``, memory-mapped; and
        the name of their entry, which no other features have.

    Raises:
        CacheError: the cache cannot be used.
        OSError: an image cannot be read.
    """
    batch_size = batch_size_on(device, batch_size, images)

    def batches() -> Iterator[Levels]:
        networks = [backbone.to(device), *(copy.deepcopy(backbone).to(each) for each in others)]
        read = image_batches(images, device, batch_size, workers, others)
        steps = math.ceil(len(images) / batch_size)
        computing: deque[HostCopy] = deque()
        for number, image in enumerate(track(read, title, steps)):
            first = number * batch_size
            with torch.inference_mode():
                boxes = images.box_of(range(first, first + len(image)))
                levels = framed_levels(networks[number % len(networks)], image, boxes)
                computing.append(HostCopy([level.permute(0, 2, 3, 1).half() for level in levels]))
            if len(computing) > len(networks):  # while each GPU works on a batch
                yield computing.popleft().arrays()
        for copies in computing:
            yield copies.arrays()

    key = cache_key(backbone, images)
    return cache.get(key, len(images), batches), digest(key)


def batch_size_on(device: torch.device, batch_size: int, images: TaskImages) -> int:
    """The number of images in a batch of the pass, which suits the device.

    Args:
        device: the device for the backbone.
        batch_size: the number of images that is given.
        images: the images of a split.

    Returns:
        ``batch_size``; on a GPU up to four times as many, if the images are small.
    """
    if device.type == "cpu":
        return batch_size
    most = GPU_PIXELS // math.prod(images.frame.size)
    return max(batch_size, min(GPU_BATCHES * batch_size, most))


class HostCopy:
    """A copy of tensors in the memory of the processor; one from an Nvidia GPU runs on its own.

    Args:
        tensors: of any shape, on one device.

    Example:
        >>> [array.tolist() for array in HostCopy([torch.arange(3)]).arrays()]
        [[0, 1, 2]]
    """

    def __init__(self, tensors: list[Tensor]) -> None:
        self.copied: torch.cuda.Event | None = None
        if tensors[0].device.type != "cuda":
            self.tensors = [tensor.cpu() for tensor in tensors]
            return
        self.tensors = [
            torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True).copy_(
                tensor, non_blocking=True
            )
            for tensor in tensors
        ]
        self.copied = torch.cuda.Event()  # type: ignore[no-untyped-call]
        self.copied.record(torch.cuda.current_stream(tensors[0].device))

    def arrays(self) -> list[np.ndarray]:
        """The copies, when they are complete."""
        if self.copied is not None:
            self.copied.synchronize()
        return [tensor.numpy() for tensor in self.tensors]


def cache_key(backbone: FrozenBackbone, images: TaskImages) -> dict[str, Any]:
    """Everything that determines the features of a split.

    Image files are identified by path, size and modification time, the libraries that decode and
    compute by their versions, and a user's own method to read images by its source.

    Args:
        backbone: the frozen network.
        images: the images of a split.

    Raises:
        OSError: an image file does not exist.
    """
    files = []
    for item in images.items:
        status = item.path.stat()
        path = str(item.path.absolute())
        tile = [] if item.tile is None else [list(item.tile)]
        turn = [{"turn": item.turn}] if item.turn else []
        files.append([path, status.st_size, status.st_mtime_ns, item.index, *tile, *turn])
    own = type(images.benchmark)
    reader = {} if own.read.__module__.startswith("occ_lab.") else {"reader": code_of(own)}
    return {
        "format": FORMAT,
        "backbone": backbone.name,
        "identity": backbone.identity,
        **{key: value for key, value in describe_frame(images.frame).items() if value is not None},
        "drawn": images.drawing,
        "versions": [torch.__version__, timm.__version__, PIL.__version__],
        "images": files,
        **reader,
    }
