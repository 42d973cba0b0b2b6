"""The gallery of images that a predictor has scored."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from torch import Tensor

from occ_lab.data.boxes import cut, fractions
from occ_lab.inference.predictor import Predictor
from occ_lab.reporting.gallery.gallery import Entry, Gallery, Judging


def gallery_for(predictor: Predictor, directory: Path, title: str) -> Gallery:
    """An empty gallery whose images a predictor will score.

    Args:
        predictor: gives threshold, calibration and colours.
        directory: where ``index.html`` goes.
        title: of the page.
    """
    judging = {predictor.task: Judging.of(predictor.calibration, predictor.overkill)}
    return Gallery(directory, title, judging, predictor.detector.frame.range)


def add_scored(
    gallery: Gallery,
    predictor: Predictor,
    path: Path,
    score: float,
    pixels: np.ndarray,
    size: tuple[int, int],
    heat: Tensor | None,
) -> None:
    """Add an image to a gallery.

    Args:
        gallery: see `gallery_for`.
        predictor: has scored the image.
        path: its file.
        score: its score.
        pixels: what the network has seen, uint8 ``[h, w, 3]``.
        size: height and width of the image.
        heat: the map of what the network has seen, ``[h, w]``; None where there is none.

    Raises:
        OSError: a file cannot be written.
    """
    frame = predictor.detector.frame
    box = frame.box(*size)
    entry = Entry(path, score, task=predictor.task, shown=fractions(frame.shown(*size), size))
    seen = None if heat is None else cut(heat.numpy(), box)
    gallery.add(entry, cut(pixels, box), seen)
