"""Time, memory and rounding of all pixel metrics over many maps.

``python -m benchmarks.pixel_measures`` streams generated maps with marked regions through
`PixelMetrics` and `PixelSegF1`, once as a run does and once with all scores exact, each in a
process of its own. It prints seconds, the peak memory of the process, and the metrics.
"""

from __future__ import annotations

import argparse
import multiprocessing
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor

import torch
from rich.console import Console
from torch import Tensor

from occ_lab.metrics import pixel_store
from occ_lab.metrics.pixel import PixelMetrics
from occ_lab.metrics.saturation import saturating
from occ_lab.metrics.segmentation import PixelSegF1
from occ_lab.postprocessing.maps import upsample_and_smooth
from occ_lab.utils.memory import MB, peak_mb

BATCH, GRID = 20, 64


def batches(images: int, side: int) -> Iterator[tuple[Tensor, ...]]:
    """Smooth maps, masks, kinds and gains; every other image has a region of some strength."""
    for number in range(images // BATCH):
        draw = torch.Generator().manual_seed(number)
        grid = 5 + torch.randn(BATCH, GRID, GRID, generator=draw).square()
        masks = torch.zeros(BATCH, side, side, dtype=torch.bool)
        strengths = torch.rand(BATCH, generator=draw) * 2
        corners = torch.randint(0, side // 2, (BATCH, 2), generator=draw).tolist()
        for image in range(0, BATCH, 2):
            top, left = corners[image]
            masks[image, top : top + side // 5, left : left + side // 8] = True
        maps = upsample_and_smooth(grid, (side, side), 4.0)
        maps += masks * strengths[:, None, None]
        gains = [saturating(each, [(mask, 0.5)]) for each, mask in zip(maps, masks, strict=True)]
        kinds = torch.where(masks.any(2).any(1), number % 5, -1)
        yield maps, masks, kinds, torch.stack(gains)


def measured(images: int, side: int, exact: bool) -> dict[str, float]:
    """The metrics, ``seconds`` spent in them, ``peak_mb`` of the process and ``before_mb``."""
    if exact:
        pixel_store.EXACT_BYTES = 2**62
    metric, segmentation = PixelMetrics(), PixelSegF1(threshold=7.5, groups=5)
    before, spent = peak_mb() or 0.0, 0.0
    for maps, masks, kinds, gains in batches(images, side):
        started = time.perf_counter()
        metric.update(maps, masks, kinds, gains=gains)
        segmentation.update(maps, masks, kinds)
        spent += time.perf_counter() - started
    started = time.perf_counter()
    values = {**metric.compute(), "pixel_segf1": segmentation.compute()}
    spent += time.perf_counter() - started
    found = {name: float(value) for name, value in values.items()}
    return found | {"seconds": spent, "before_mb": before, "peak_mb": peak_mb() or 0.0}


def main() -> None:
    """Measure both ways and print them side by side."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pixel_measures")
    parser.add_argument("--images", type=int, default=5000, help="default: %(default)s")
    parser.add_argument("--side", type=int, default=256, help="default: %(default)s")
    asked = parser.parse_args()
    limit = f"exact up to {pixel_store.EXACT_BYTES / MB:.0f} MB"
    results = []
    for exact in (False, True):
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
            results.append(pool.submit(measured, asked.images, asked.side, exact).result())
    console = Console(highlight=False, markup=False, soft_wrap=True)
    console.print(f"{'':16} {limit:>20} {'exact':>14} {'difference':>11}")
    for name, value in results[0].items():
        other = results[1][name]
        console.print(f"{name:16} {value:20.8g} {other:14.8g} {value - other:11.1e}")


if __name__ == "__main__":
    main()
