"""Reading images and masks, and bringing both to the size a network takes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # it would look online for a newer release

import albumentations as A

REFLECT = 4  # OpenCV's BORDER_REFLECT_101


def read_image(path: Path) -> np.ndarray:
    """An image file as 8-bit RGB.

    Grey and palette images become RGB, an alpha channel is dropped, 16-bit values are scaled by
    255/65535.

    Returns:
        uint8 ``[h, w, 3]``.

    Raises:
        OSError: the file is missing, truncated or no image.
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
    if image.mode != "RGB":  # to convert is to copy
        image = image.convert("RGB")
    return np.array(image)  # a copy: torch wants it writable


def read_mask(path: Path) -> np.ndarray:
    """A mask file: any colour but black is defect.

    Returns:
        bool ``[h, w]``.

    Raises:
        OSError: the file is missing, truncated or no image.
    """
    with Image.open(path) as file:
        if file.mode in ("1", "L"):
            return np.asarray(file) != 0
    return np.asarray(read_image(path).any(axis=-1))


class LanczosResize(A.DualTransform):
    """Resize to a square: images by Lanczos with antialiasing, masks by nearest neighbour.

    Pillow does it, since OpenCV's Lanczos does not antialias when it shrinks.

    Args:
        side: height and width of the result in pixels.
    """

    def __init__(self, side: int) -> None:
        super().__init__(p=1.0)
        self.side = side

    def apply(self, img: np.ndarray, **params: Any) -> np.ndarray:
        """Resize a uint8 image ``[h, w, 3]``."""
        return self._resize(img, Image.Resampling.LANCZOS)

    def apply_to_mask(self, mask: np.ndarray, **params: Any) -> np.ndarray:
        """Resize a uint8 mask ``[h, w]``."""
        return self._resize(mask, Image.Resampling.NEAREST)

    def _resize(self, pixels: np.ndarray, how: Image.Resampling) -> np.ndarray:
        if pixels.shape[:2] == (self.side, self.side):
            return pixels
        return np.array(Image.fromarray(pixels).resize((self.side, self.side), how))


def preprocess(resize: int, crop: int) -> A.Compose:
    """Resize to ``resize`` pixels a side, crop ``crop`` pixels at the centre; mask alongside."""
    return A.Compose([LanczosResize(resize), A.CenterCrop(crop, crop)])


def random_preprocess(
    resize: int, crop: int, rotate: float, random_crop: bool, seed: int
) -> A.Compose:
    """As `preprocess`, after a random rotation by up to ``rotate`` degrees, borders reflected.

    With ``random_crop`` the crop is at random as well. By one ``seed`` an image and its mask go
    through the same, whether they do so together or not.
    """
    cropping = A.RandomCrop(crop, crop) if random_crop else A.CenterCrop(crop, crop)
    rotation = A.Rotate(limit=rotate, border_mode=REFLECT, p=1.0)
    return A.Compose([rotation, LanczosResize(resize), cropping], seed=seed)
