"""Pictures of the test images of a task with their heatmaps."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import torch

from occ_lab.data.transforms import Preprocessing, at_full_size, contained
from occ_lab.engine.job import Job
from occ_lab.engine.tested import Tested
from occ_lab.postprocessing.postprocess import PostProcess
from occ_lab.reporting.pictures import save_pictures

LARGEST = 1024  # pixels; the longest side of images in the pictures of a run


def write_pictures(folder: Path, tested: Tested, job: Job) -> list[Path]:
    """Save pictures of the worst misses; equal ones of an earlier job are written again."""
    key = f"{tested.key} {job.maps} pictures"
    shared = job.shared if tested.key else None
    kept = None if shared is None else shared.get(key)
    if kept is not None:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in kept.items():
            (folder / name).write_bytes(content)
        return [folder / name for name in kept]
    files = draw_pictures(folder, tested, job.postprocess, job.maps)
    if shared is not None:
        shared.keep(key, {path.name: path.read_bytes() for path in files})
    return files


def draw_pictures(folder: Path, tested: Tested, postprocess: PostProcess, count: int) -> list[Path]:
    """Save pictures of the worst misses; those of a semantic task show only the images."""
    images, frame = tested.data.test_images, tested.data.preprocessing
    whole = not isinstance(frame, Preprocessing)

    def heat(index: int) -> np.ndarray:
        size = images.benchmark.image_size(images.items[index]) if whole else frame.size
        seen = tested.seen_map(postprocess, index, size)
        assert seen is not None
        if not whole:
            return seen
        small = contained(size, (LARGEST, LARGEST)) if max(size) > LARGEST else size
        shown = at_full_size(torch.from_numpy(seen), frame.box(*size), frame.shown(*small), small)
        return np.asarray(shown.numpy())

    has_maps = tested.patch_scores[0].shape != torch.Size([1, 1])
    return save_pictures(
        folder,
        partial(images.whole, largest=LARGEST) if whole else images.__getitem__,
        heat if has_maps else None,
        tested.scores.numpy(),
        tested.labels.numpy(),
        count,
        whole,
    )
