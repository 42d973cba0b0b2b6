"""The headers of image files, which are read without their pixels."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from occ_lab.data.images import opened
from occ_lab.data.orientation import header_orientation
from occ_lab.data.pixel_values import numbers, wide
from occ_lab.utils.errors import ImageError

TIFF_SIZE = (256, 257)  # the tags for width and height


class Header(NamedTuple):
    """The information in the header of an image file.

    Attributes:
        height: the height in pixels of the image as displayed.
        width: likewise.
        format: the format, as Pillow names it.
        deep: whether its values have more than 8 bits.
        pages: the number of pages, frames or layers; the first one is read.
    """

    height: int
    width: int
    format: str
    deep: bool
    pages: int


def image_size(path: Path) -> tuple[int, int]:
    """Height and width of an image file as `read_image` returns it; only its header is read.

    Raises:
        ImageError: the file is missing, too large or not an image.
    """
    found = header(path)
    return found.height, found.width


def header(path: Path) -> Header:
    """The header of an image file; an unchanged file is not opened again.

    Raises:
        ImageError: the file is missing, too large or not an image.
    """
    return known_header(path, *version(path))


def version(path: Path) -> tuple[int, int]:
    """Length in bytes and time of change in ns of an image file, which identify its content.

    Raises:
        ImageError: the file is missing.
    """
    try:
        status = path.stat()
    except OSError as error:
        raise ImageError(f"{path}: unreadable ({error.strerror})") from error
    return status.st_size, status.st_mtime_ns


@lru_cache(maxsize=2**17)
def known_header(path: Path, length: int, changed: int) -> Header:
    """As `header`, of a `version` of the file."""
    with opened(path) as file:
        if isinstance(file, np.ndarray):
            height, width = file.shape[:2]
            return Header(height, width, "TIFF", file.dtype != np.uint8, 1)
        deep = numbers(file) or wide(file)
        turned = (header_orientation(path, file) or 1) >= 5
        tags: Any = getattr(file, "tag_v2", {})
        # It depends on Pillow's version whether it returns the stored or the displayed size.
        width, height = (
            tags.get(tag, side) for tag, side in zip(TIFF_SIZE, file.size, strict=True)
        )
        width, height = (height, width) if turned else (width, height)
        return Header(height, width, file.format or "", deep, page_count(file))


def page_count(file: Image.Image) -> int:
    """The number of pages, frames or layers of an image, as far as they can be counted."""
    if file.format == "MPO":  # the additional pictures are previews or gain maps
        return 1
    try:
        return int(getattr(file, "n_frames", None) or 1)
    except Exception:  # the first page may be intact
        return 1
