"""Generated images, for checks and measurements that need no data."""

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
        seed: of what is drawn, or what draws.
        height: in pixels.
        width: in pixels.
        cells: shapes along a side.
        levels: of the shapes, the second one excluded, in 0..256.
        grain: standard deviation of the grain in levels.
    """
    generator = np.random.default_rng(seed)
    shapes = Image.fromarray(generator.integers(*levels, (cells, cells, 3), dtype=np.uint8))
    smooth = np.asarray(shapes.resize((width, height), Image.Resampling.BICUBIC))
    return (smooth + generator.normal(0, grain, smooth.shape)).clip(0, 255).astype(np.uint8)
