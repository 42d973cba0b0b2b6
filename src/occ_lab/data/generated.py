"""Generated images for checks and measurements that do not need real data."""

from __future__ import annotations

import numpy as np
from PIL import Image


def made_image(
    seed: int | np.random.Generator,
    height: int,
    width: int,
    cells: int = 8,
    levels: tuple[int, int] = (0, 256),
    grain: float = 5,
) -> np.ndarray:
    """Smooth shapes and fine grain, uint8 ``[height, width, 3]``.

    Args:
        seed: the seed of the random numbers, or their generator.
        height: the height in pixels.
        width: the width in pixels.
        cells: the number of shapes along a side.
        levels: the lowest grey level of the shapes, and the highest plus one, in 0..256.
        grain: the standard deviation of the grain in grey levels.

    Example:
        >>> made_image(0, height=32, width=48).shape
        (32, 48, 3)
    """
    generator = np.random.default_rng(seed)
    shapes = Image.fromarray(generator.integers(*levels, (cells, cells, 3), dtype=np.uint8))
    smooth = np.asarray(shapes.resize((width, height), Image.Resampling.BICUBIC))
    return (smooth + generator.normal(0, grain, smooth.shape)).clip(0, 255).astype(np.uint8)
