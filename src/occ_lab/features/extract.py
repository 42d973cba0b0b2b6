"""One pass of the backbone over the images of a split, through the cache."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import PIL
import timm
import torch
from rich.progress import track
from torch.utils.data import DataLoader

from occ_lab.data.module import TaskImages
from occ_lab.features.backbone import Backbone
from occ_lab.features.cache import FeatureCache, Levels

FORMAT = 1  # of the entries; a change of what is kept or how it is computed raises it


def cached_features(
    cache: FeatureCache,
    backbone: Backbone,
    images: TaskImages,
    device: torch.device,
    batch_size: int,
    workers: int,
    title: str,
) -> Levels:
    """The backbone's levels of every image, from the cache or by one pass.

    Args:
        cache: where they are kept.
        backbone: the frozen network; it is moved to ``device``.
        images: the split.
        device: where the backbone computes.
        batch_size: images in a batch.
        workers: processes that read images; 0 reads them in the main process.
        title: what the progress bar says.

    Returns:
        One array a level, finest first, float16 ``[N, H_l, W_l, C_l]``, memory-mapped.
    """

    def batches() -> Iterator[Levels]:
        loader = DataLoader(images, batch_size=batch_size, num_workers=workers)
        backbone.to(device)
        for batch in track(loader, title, transient=True):
            with torch.inference_mode():
                levels = backbone(batch["image"].to(device))
                yield [level.permute(0, 2, 3, 1).half().cpu().numpy() for level in levels]

    return cache.get(cache_key(backbone, images), len(images), batches)


def cache_key(backbone: Backbone, images: TaskImages) -> dict[str, Any]:
    """All that decides the features of a split.

    The files stand in it by path, size and time of change; the libraries that decode and compute
    by version.
    """
    files = []
    for item in images.items:
        status = item.path.stat()
        path = str(item.path.absolute())
        files.append([path, status.st_size, status.st_mtime_ns, item.place])
    return {
        "format": FORMAT,
        "backbone": backbone.name,
        "identity": backbone.identity,
        "resize": images.benchmark.resize,
        "crop": images.benchmark.crop,
        "versions": [torch.__version__, timm.__version__, PIL.__version__],
        "images": files,
    }
