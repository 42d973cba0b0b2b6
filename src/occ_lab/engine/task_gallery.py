"""The gallery of a task's test images."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from occ_lab.engine.tested import Tested
from occ_lab.metrics.calibration import Calibration
from occ_lab.postprocessing.postprocess import PostProcess
from occ_lab.reporting.gallery.gallery import Entry, Gallery, Judging
from occ_lab.reporting.gallery.scale import Scale


def write_gallery(
    folder: Path,
    task: str,
    tested: Tested,
    postprocess: PostProcess,
    calibration: Calibration | None,
    rate: float | None,
) -> None:
    """Write ``index.html``, on which all test images of a task can be looked at.

    Args:
        folder: of the task.
        task: its name, the title of the page.
        tested: the images and their scores.
        postprocess: makes maps of them.
        calibration: gives threshold and colours; None where there is none.
        rate: the false-positive rate of the calibration.
    """
    images = tested.data.test_images
    judging = Judging.of(calibration, rate)
    if judging.scale is None:
        judging = replace(judging, scale=scale_of(tested, postprocess))
    gallery = Gallery(folder, task, {task: judging}, tested.data.preprocessing.range)
    for index, score in enumerate(tested.scores.tolist()):
        item, seen = images.items[index], images.seen(index)
        entry = Entry(Path(str(item)), score, item.label, item.kind, task)
        heat = tested.seen_map(postprocess, index, seen.size)
        gallery.show(entry, images.frame, seen, heat)
    gallery.write()


def scale_of(tested: Tested, postprocess: PostProcess) -> Scale | None:
    """The colours of the maps, from those of the normal test images; None without maps."""
    images = tested.data.test_images
    peaks = []
    for index, item in enumerate(images.items):
        if item.label == 0:
            size = images.benchmark.image_size(item)
            heat = tested.seen_map(postprocess, index, size)
            peaks += [] if heat is None else [heat.max()]
    return Scale.of(np.array(peaks)) if peaks else None
