"""The frame of a stream, as its first image determines it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor

from occ_lab.data.any_image import AnyImage, as_rgb
from occ_lab.data.images import read_pixels, shown
from occ_lab.data.transforms import WholeImage
from occ_lab.data.value_range import extremes_of, range_of


def frame_for(image: AnyImage, side: int, multiple: int) -> WholeImage:
    """The frame for whole images like a given one.

    Args:
        image: the first image, see `Detector.score`.
        side: the longer side in pixels.
        multiple: the sides of the frame are multiples of this number of pixels.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is not an image.
    """
    if isinstance(image, str | Path | bytes):
        values = read_pixels(image if isinstance(image, bytes) else Path(image))
    elif isinstance(image, Image.Image):
        values = shown(image)
    else:
        values = np.asarray(image.detach().cpu() if isinstance(image, Tensor) else image)
        if np.issubdtype(values.dtype, np.floating):  # in 0..1
            values = as_rgb(image)
    found = None
    if values.dtype != np.uint8 and values.size:
        found = range_of([extremes_of(values)])
    height, width = as_rgb(image, found).shape[:2]
    return replace(WholeImage.of([(height, width)], side, multiple), range=found)
