"""The orientation that a camera has stored in an image file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import ExifTags, Image

ORIENTATION = ExifTags.Base.Orientation
LATE = 2**17  # bytes at the end of a PNG that are searched for EXIF data


def orientation(file: Image.Image) -> int | None:
    """The EXIF orientation of a decoded image, 1 to 8; None if unknown."""
    try:
        return int(file.getexif().get(ORIENTATION, 1))
    except Exception:  # damaged EXIF data does not affect the pixels
        return None


def header_orientation(path: Path, file: Image.Image) -> int | None:
    """As `orientation`, for a file that is not decoded."""
    if file.format != "PNG":
        return orientation(file)
    if "exif" not in file.info and late_exif(path):
        file.load()
        return orientation(file)
    try:
        # Pillow's own method would decode a PNG to find the data that comes after the pixels.
        return int(Image.Image.getexif(file).get(ORIENTATION, 1))
    except Exception:
        return None


def late_exif(path: Path) -> bool:
    """Whether the EXIF data of a PNG comes after its pixels."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - LATE))
        return b"eXIf" in file.read()


def oriented(pixels: np.ndarray, turn: int | None) -> np.ndarray:
    """Turn pixels ``[h, w]`` or ``[h, w, C]`` as an EXIF orientation requires.

    Example:
        >>> oriented(np.array([[1, 2], [3, 4]]), 6).tolist()  # the camera stood on its side
        [[3, 1], [4, 2]]
    """
    if turn in (2, 3, 7, 8):
        pixels = pixels[:, ::-1]
    if turn in (3, 4, 6, 7):
        pixels = pixels[::-1]
    return pixels.swapaxes(0, 1) if turn in (5, 6, 7, 8) else pixels
