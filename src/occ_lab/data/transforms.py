"""How images and masks are brought to the size that a network takes."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from PIL import Image

from occ_lab.data.base import check_size

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # it would look online for a newer release

import albumentations as A

REFLECT = 4  # OpenCV's BORDER_REFLECT_101


@dataclass(frozen=True)
class Preprocessing:
    """Resize to a square by Lanczos with antialiasing, then crop at the centre.

    These are the inputs of the papers' protocols; a network's own normalisation comes after it.

    Args:
        resize: height and width in pixels after resizing, at least 1.
        crop: height and width in pixels of the result, at most ``resize``.

    Raises:
        ValueError: a size is out of range.

    Example:
        >>> Preprocessing(resize=64, crop=56)(np.zeros((100, 80, 3), np.uint8)).shape
        (56, 56, 3)
    """

    resize: int = 256
    crop: int = 224

    def __post_init__(self) -> None:
        check_size(self.resize, self.crop)

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """A uint8 RGB image ``[h, w, 3]`` as uint8 ``[crop, crop, 3]``."""
        pixels: np.ndarray = self._steps()(image=image)["image"]
        return pixels

    def of_mask(self, mask: np.ndarray) -> np.ndarray:
        """A bool mask ``[h, w]`` as bool ``[crop, crop]``, resized by nearest neighbour."""
        pixels = mask.astype(np.uint8)
        return np.asarray(self._steps()(image=pixels, mask=pixels)["mask"], bool)

    def _steps(self) -> A.Compose:
        return _resize_and_crop(self.resize, self.crop)


@lru_cache
def _resize_and_crop(resize: int, crop: int) -> A.Compose:
    return A.Compose([LanczosResize(resize), A.CenterCrop(crop, crop)])


@dataclass(frozen=True)
class RandomPreprocessing(Preprocessing):
    """As `Preprocessing`, after a random rotation; the crop may be random as well.

    An image and its mask are rotated and cropped alike by one seed. Objects are cheap: make one
    for each image, since the same object transforms every image alike.

    Args:
        resize: height and width in pixels after resizing, at least 1.
        crop: height and width in pixels of the result, at most ``resize``.
        rotate: the largest angle in degrees, in 0..180; borders are reflected.
        random_crop: whether the crop is at a random position in place of the centre.
        seed: of angle and position.

    Example:
        >>> image = np.arange(64 * 64 * 3, dtype=np.uint8).reshape(64, 64, 3)
        >>> first, second = (RandomPreprocessing(48, 32, rotate=10, seed=seed) for seed in (0, 1))
        >>> bool((first(image) == first(image)).all()), bool((first(image) == second(image)).all())
        (True, False)
    """

    rotate: float = 0.0
    random_crop: bool = False
    seed: int = 0

    def _steps(self) -> A.Compose:
        crop = A.RandomCrop if self.random_crop else A.CenterCrop
        rotation = A.Rotate(limit=self.rotate, border_mode=REFLECT, p=1.0)
        steps = [rotation, LanczosResize(self.resize), crop(self.crop, self.crop)]
        return A.Compose(steps, seed=self.seed)


class LanczosResize(A.DualTransform):  # type: ignore[misc]  # albumentations is not typed
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
