"""Image files whose values have more than 8 bits."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

import numpy as np

from occ_lab.data.headers import header, version
from occ_lab.data.images import read_pixels
from occ_lab.data.items import Item
from occ_lab.data.value_range import Extremes, Range, extremes_of, range_of
from occ_lab.utils.errors import ImageError


def deep_files(items: Iterable[Item]) -> Iterator[Path]:
    """The image files whose values have more than 8 bits, according to their headers.

    Files that hold many images and files that cannot be read are left out.
    """
    for item in items:
        if item.index is None:
            with suppress(ImageError):
                if header(item.path).deep:
                    yield item.path


def learned_range(items: Iterable[Item]) -> Range | None:
    """The range of the stored values of all images, see `range_of`; None if they have 8 bits.

    Files that cannot be read are left out; `check_split` reports them.
    """
    with ThreadPoolExecutor() as pool:
        found = [each for each in pool.map(known, deep_files(items)) if each is not None]
    return range_of(found) if found else None


def known(path: Path) -> Extremes | None:
    """The extreme values of an image, or None if it cannot be read."""
    with suppress(ImageError):
        return extremes(path)
    return None


def extremes(path: Path) -> Extremes:
    """The extreme values of an image file; an unchanged file is not read again.

    Raises:
        ImageError: it cannot be read, or some values are not finite.
    """
    return known_extremes(path, *version(path))


@lru_cache(maxsize=2**17)
def known_extremes(path: Path, length: int, changed: int) -> Extremes:
    """As `extremes`, of a `version` of the file."""
    found = extremes_of(read_pixels(path))
    if not np.isfinite(found[:2]).all():
        raise ImageError(f"{path}: unreadable (some values are not finite)")
    return found
