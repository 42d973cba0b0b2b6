"""Notes for the user about the files of a task, one line each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

import numpy as np

from occ_lab.data.base import Benchmark
from occ_lab.data.deep import deep_files
from occ_lab.data.files import SHOWN, skipped_line
from occ_lab.data.headers import header
from occ_lab.data.images import read_pixels
from occ_lab.data.items import Item, Split
from occ_lab.data.value_range import Range, range_line
from occ_lab.utils.errors import ImageError, InputError

LOOKED_AT = 8  # the number of training images whose pixels are checked


def notes(benchmark: Benchmark, task: str, split: Split, range: Range | None) -> Iterator[str]:
    """Lines about files that are skipped, read in part, or whose values are scaled.

    Args:
        benchmark: lists the files.
        task: one of its tasks.
        split: the images of the task.
        range: see `Benchmark.value_range`.

    Raises:
        InputError: a test image has more than 8 bits but the training images have 8, and no range
            is given.
    """
    skipped = benchmark.skipped(task)
    if skipped:
        yield skipped_line(skipped)
    if len(split.train) == 1:
        yield "there is one training image, which shows no variation: expect poor scores"
    if split.validation:
        count = len(split.validation)
        yield f"{count} normal validation images of the benchmark are kept apart for the threshold"
    blank = blanks(benchmark, split.train)
    if blank:
        yield (
            f"{len(blank)} of the {min(LOOKED_AT, len(split.train))} training images checked have "
            f"one colour in all pixels: {blank[0]}"
        )
    yield from benchmark.notes(task)
    several = paged([*split.train, *split.test])
    if several:
        named = ", ".join(map(str, several[:SHOWN]))
        more = f" and {len(several) - SHOWN} more" if len(several) > SHOWN else ""
        yield f"images with several pages or frames: only the first one is used: {named}{more}"
    deep = next(deep_files([*split.train, *split.test]), None)
    if deep is not None and range is None:
        raise InputError(
            f"range: {deep} has values of more than 8 bits, the training images have 8; give the "
            "lowest and the highest value, such as [0,4095]",
            part="dataset",
        )
    if deep is not None and range is not None:
        yield range_line(range, benchmark.range is not None)
    elif benchmark.range is not None:
        yield "range: has no effect, because no image has values of more than 8 bits"


def blanks(benchmark: Benchmark, items: Sequence[Item]) -> list[Item]:
    """The images, among an evenly spaced sample, that have one colour in all pixels."""
    found = []
    for item in items[:: max(1, len(items) // LOOKED_AT)][:LOOKED_AT]:
        with suppress(ImageError, FileNotFoundError):
            if type(benchmark).read is Benchmark.read and item.index is None:
                status = item.path.stat()
                blank = file_is_blank(item.path, status.st_size, status.st_mtime_ns)
            else:
                blank = is_blank(benchmark.read(item))
            if blank:
                found.append(item)
    return found


@lru_cache(maxsize=2**12)
def file_is_blank(path: Path, length: int, changed: int) -> bool:
    """Whether an image file has one colour in all pixels; once per content, for many jobs.

    Raises:
        ImageError: the file cannot be read.
    """
    return is_blank(read_pixels(path))


def is_blank(pixels: np.ndarray) -> bool:
    """Whether pixels ``[h, w, ...]`` have one colour."""
    return bool((pixels == pixels[:1, :1]).all())


def paged(items: Sequence[Item]) -> list[Path]:
    """The image files with more than one page, frame or layer."""
    found = []
    for item in items:
        if item.index is None:
            with suppress(ImageError):
                if header(item.path).pages > 1:
                    found.append(item.path)
    return found
