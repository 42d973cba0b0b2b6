"""The gallery of a task's test images."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from occ_lab.data.boxes import cut, fractions
from occ_lab.data.tiling import Tiles
from occ_lab.metrics.calibration import Calibration
from occ_lab.postprocessing.postprocess import PostProcess
from occ_lab.reporting.gallery.gallery import Entry, Gallery, Judging
from occ_lab.reporting.gallery.scale import Scale

if TYPE_CHECKING:
    from occ_lab.engine.run import Tested

log = logging.getLogger(__name__)


def write_gallery(
    folder: Path,
    task: str,
    tested: Tested,
    postprocess: PostProcess,
    calibration: Calibration | None,
    rate: float | None,
) -> Path:
    """Write ``index.html``, on which all test images of a task can be looked at.

    Args:
        folder: of the task.
        task: its name, the title of the page.
        tested: the images and their scores.
        postprocess: makes maps of them.
        calibration: gives threshold and colours; None where there is none.
        rate: the false-positive rate of the calibration.

    Returns:
        The page.
    """
    images = tested.data.test_images
    judging = Judging.of(calibration, rate)
    if judging.scale is None:
        judging = replace(judging, scale=scale_of(tested, postprocess))
    gallery = Gallery(folder, task, {task: judging}, tested.data.preprocessing.range)
    for index, score in enumerate(tested.scores.tolist()):
        item, frame = images.items[index], images.frame
        seen = images.seen(index)
        box, label = frame.box(*seen.size), item.label
        kind = item.path.parent.name if label and item.index is None else ""
        entry = Entry(
            Path(str(item)), score, label, kind, task, fractions(frame.shown(*seen.size), seen.size)
        )
        heat = seen_map(tested, postprocess, index, seen.size)
        try:
            gallery.add(entry, cut(seen.pixels, box), None if heat is None else cut(heat, box))
        except OSError as error:
            log.warning("no picture of %s: %s", item, error)
    return gallery.write()


def scale_of(tested: Tested, postprocess: PostProcess) -> Scale | None:
    """The colours of the maps, from those of the normal test images; None without maps."""
    images = tested.data.test_images
    peaks = []
    for index, item in enumerate(images.items):
        if item.label == 0:
            size = images.benchmark.image_size(item)
            heat = seen_map(tested, postprocess, index, size)
            peaks += [] if heat is None else [heat.max()]
    return Scale.of(np.array(peaks)) if peaks else None


def seen_map(
    tested: Tested, postprocess: PostProcess, index: int, size: tuple[int, int]
) -> np.ndarray | None:
    """The anomaly map of a test image as the network sees it, ``[h, w]``.

    Args:
        tested: its scores.
        postprocess: makes the map.
        index: of the image.
        size: height and width of the image.

    Returns:
        The map; None where the whole image has one score.
    """
    patches, frame = tested.patch_scores[index], tested.data.preprocessing
    if patches.shape == torch.Size([1, 1]):
        return None
    boxes = tested.data.test_images.box_of([index])
    maps, _ = (
        postprocess.stitched(patches, size)
        if isinstance(frame, Tiles)
        else postprocess.framed(patches[None], frame.size, boxes)
    )
    assert maps is not None
    return np.asarray(maps[0].float().cpu().numpy())
