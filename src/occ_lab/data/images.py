"""Reading images and masks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image


def read_image(path: Path) -> np.ndarray:
    """An image file as 8-bit RGB.

    Grey and palette images become RGB, an alpha channel is dropped, 16-bit values are scaled by
    255/65535.

    Returns:
        uint8 ``[h, w, 3]``.

    Raises:
        OSError: the file is missing, truncated or not an image, or has floating-point pixels.
    """
    with Image.open(path) as file:
        return rgb(file, path)


def rgb(image: Image.Image, name: object = "image") -> np.ndarray:
    """The pixels of an image as 8-bit RGB, see `read_image`; errors begin with ``name``."""
    if image.mode.startswith("I"):  # 16 bits; Pillow's own conversion to 8 would clip
        grey = (np.asarray(image, np.float64) / 257).round().clip(0, 255).astype(np.uint8)
        return np.stack([grey] * 3, axis=-1)
    if image.mode == "F":
        raise OSError(f"{name}: floating-point pixels have no known range; save 8 or 16 bits")
    if image.mode == "P":
        image = image.convert("RGBA")  # a palette may hold transparent entries
    if image.mode != "RGB":  # otherwise the conversion would only copy
        image = image.convert("RGB")
    return np.array(image)  # a copy, since torch warns about arrays that are not writable


def read_mask(path: Path) -> np.ndarray:
    """A mask file: pixels of any colour but black are anomalous.

    Returns:
        bool ``[h, w]``.

    Raises:
        OSError: the file is missing, truncated or not an image, or has floating-point pixels.
    """
    with Image.open(path) as file:
        if file.mode in ("1", "L"):
            return np.asarray(file).astype(bool)
    return np.asarray(read_image(path).any(axis=-1))
