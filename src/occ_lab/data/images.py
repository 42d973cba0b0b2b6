"""Reading images."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from occ_lab.data.files import image_suffixes
from occ_lab.data.orientation import ORIENTATION, orientation, oriented
from occ_lab.data.pixel_values import numbers, plain_numbers, wide, wide_values
from occ_lab.data.value_range import Range, eight_bits, extremes_of, range_of
from occ_lab.utils.errors import ImageError

TIFFS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # how TIFF and BigTIFF files begin


def read_image(path: Path, range: Range | None = None) -> np.ndarray:
    """Read an image file as 8-bit RGB, oriented for display.

    Grey and palette images become RGB, an alpha channel is dropped, and the orientation that a
    camera has stored is applied. If there are several pages or frames, the first one is read.

    Args:
        path: the file.
        range: the stored values that become 0 and 255 if the values have more than 8 bits. None
            takes them from this image, see `occ_lab.data.value_range.range_of`; images that are to
            be compared need a common range.

    Returns:
        uint8 ``[h, w, 3]``.

    Raises:
        ImageError: the file is missing, truncated, too large or not an image.
    """
    stored = read_pixels(path)
    if stored.dtype == np.uint8:
        return stored
    return eight_bits(stored, range or range_of([extremes_of(stored)]), path)


def read_pixels(source: Path | bytes) -> np.ndarray:
    """Read an image file, oriented for display, with the values as stored.

    Args:
        source: the file, or its content.

    Returns:
        uint8 ``[h, w, 3]``, RGB; if the values have more than 8 bits, ``[h, w]`` or ``[h, w, 3]``
        of another dtype.

    Raises:
        ImageError: the file is missing, truncated, too large or not an image.
    """
    with opened(source) as file:
        values = file if isinstance(file, np.ndarray) else shown(file)
        return (
            eight_bits(values, None) if values.dtype == np.uint8 else np.ascontiguousarray(values)
        )


def shown(file: Image.Image) -> np.ndarray:
    """The values of an opened image, in the form that `read_pixels` returns.

    Raises:
        ImageError: 16 bits a colour in a format other than PNG, TIFF and JPEG 2000.
    """
    if wide(file):
        values = wide_values(file)[..., :3]
    elif numbers(file):
        file.load()
        values = plain_numbers(file)
    else:
        file.load()
        values = np.array(rgb(file))  # a copy, because torch warns about read-only arrays
    return np.ascontiguousarray(oriented(values, orientation(file)))


def rgb(image: Image.Image) -> Image.Image:
    """Convert an image of 8 bits to RGB."""
    if image.mode == "P":
        image = image.convert("RGBA")  # a palette may have transparent entries
    return image if image.mode == "RGB" else image.convert("RGB")


@contextmanager
def opened(source: Path | bytes) -> Iterator[Image.Image | np.ndarray]:
    """Open an image file, or its content, with Pillow.

    Yields:
        The image; the values of a TIFF that Pillow does not support.

    Raises:
        ImageError: the file cannot be read; the message begins with the path, or with ``image``.
    """
    image_suffixes()  # registers HEIC with Pillow
    path = source if isinstance(source, Path) else "image"
    try:
        try:
            with Image.open(as_file(source)) as file:
                yield file
        except UnidentifiedImageError:
            if not is_tiff(source):
                raise
            yield tiff_values(source)
    except ImageError:
        raise
    except Image.DecompressionBombError as error:
        limit = f"{2 * (Image.MAX_IMAGE_PIXELS or 0):,}"
        raise ImageError(
            f"{path}: unreadable (more than {limit} pixels, which could fill the memory)"
        ) from error
    except UnidentifiedImageError as error:
        raise ImageError(f"{path}: unreadable (not an image)") from error
    except Exception as error:  # Pillow raises errors of many kinds if a file is damaged
        said = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise ImageError(f"{path}: unreadable ({said.splitlines()[0]})") from error


def as_file(source: Path | bytes) -> Path | io.BytesIO:
    """What libraries open: a path, or content as a file in memory."""
    return source if isinstance(source, Path) else io.BytesIO(source)


def is_tiff(source: Path | bytes) -> bool:
    """Whether a file is a TIFF by its name, or content by its first bytes."""
    if isinstance(source, Path):
        return source.suffix.lower() in (".tif", ".tiff")
    return source[:4] in TIFFS


def tiff_values(source: Path | bytes) -> np.ndarray:
    """The first page of a TIFF whose dtype Pillow does not support, ``[h, w(, 3)]``.

    These are floats of 16 or 64 bits, integers of 64 bits, and colour images of floats.
    """
    import tifffile

    with tifffile.TiffFile(as_file(source)) as file:
        page: Any = file.pages[0]
        values = page.asarray()
        if values.ndim == 3 and page.axes.startswith("S"):
            values = np.moveaxis(values, 0, -1)
        tag = page.tags.get(int(ORIENTATION))
        if values.ndim not in (2, 3):
            raise ValueError(f"not an image: its axes are {page.axes}")
    if values.ndim == 3:
        values = values[..., :3] if values.shape[2] >= 3 else values[..., 0]
    return oriented(values, None if tag is None else int(tag.value))
