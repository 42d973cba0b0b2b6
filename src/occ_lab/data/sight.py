"""One line about how much of its images a run uses."""

from __future__ import annotations

import math

import numpy as np

from occ_lab.data.base import Benchmark
from occ_lab.data.tiling import REDUCED, Tiles
from occ_lab.data.transforms import Frame, Preprocessing


def sight(benchmark: Benchmark, task: str, frame: Frame) -> str | None:
    """A note on how the images of a task are cropped, reduced or tiled; None if not worth noting.

    Args:
        benchmark: the images.
        task: one of its tasks.
        frame: brings the images to one size.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> from occ_lab.data.datasets.textures import Textures
        >>> with TemporaryDirectory() as folder:
        ...     bricks = Textures(root=folder, train=1, normal=1, defective=1, resize=256)
        ...     sight(bricks, "brick", bricks.preprocessing("brick"))
        'brick: the central 76 % of each image is seen'
    """
    if isinstance(frame, Preprocessing):
        part = (frame.crop / frame.resize) ** 2
        percent = math.floor(100 * part)
        return None if part == 1 else f"{task}: the central {percent} % of each image is seen"
    sizes = benchmark.frame_sizes(task)
    if not sizes:
        return None
    height, width = (int(np.median(side)) for side in zip(*sizes, strict=True))
    about = f"{task}: images of {width} × {height} px"
    if isinstance(frame, Tiles):
        tiles = len(frame.origins(height, width))
        return (
            f"{about} are cut into {tiles} tiles of {frame.tile} px that overlap by {frame.overlap}"
        )
    times = max(height / frame.height, width / frame.width)
    if times > REDUCED and benchmark.tile is None and benchmark.kind == "structured":
        return f"{about} are reduced {times:.0f} times; tile=auto also finds small defects in them"
    if benchmark.tile == "auto":
        return f"{about} are used whole, because they are small enough (tile=auto)"
    return None
