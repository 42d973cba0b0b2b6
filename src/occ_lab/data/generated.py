"""Generated images for checks and measurements that need no data."""

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
        seed: of the random numbers, or their generator.
        height: in pixels.
        width: in pixels.
        cells: shapes along a side.
        levels: the lowest grey level of the shapes, and one above the highest, in 0..256.
        grain: standard deviation of the grain in grey levels.

    Example:
        >>> made_image(0, height=32, width=48).shape
        (32, 48, 3)
    """
    generator = np.random.default_rng(seed)
    shapes = Image.fromarray(generator.integers(*levels, (cells, cells, 3), dtype=np.uint8))
    smooth = np.asarray(shapes.resize((width, height), Image.Resampling.BICUBIC))
    return (smooth + generator.normal(0, grain, smooth.shape)).clip(0, 255).astype(np.uint8)
