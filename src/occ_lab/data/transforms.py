"""Bring images and masks to the size of a network's input."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from occ_lab.data.base import LARGEST_SIDE, MULTIPLE, check_size
from occ_lab.data.boxes import Box
from occ_lab.data.tiling import Tiles
from occ_lab.data.value_range import Range, as_range
from occ_lab.utils.errors import check_number

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # do not look for a newer release online

import albumentations as A

REFLECT = 4  # OpenCV's BORDER_REFLECT_101
ALIGNED = 16  # pixels; images begin at multiples, where a position of every level begins
MOST = 0.95  # the fraction of the training images whose longer side gets the requested length


class Seen(NamedTuple):
    """A preprocessed image.

    Attributes:
        pixels: uint8 ``[h, w, 3]``.
        size: height and width of the image before it was preprocessed.
    """

    pixels: np.ndarray
    size: tuple[int, int]


@dataclass(frozen=True)
class Preprocessing:
    """Resize to a square by Lanczos with antialiasing, then crop at the centre.

    This is the preprocessing of the papers' protocols. The network's own normalisation follows it.

    Args:
        resize: height and width in pixels after resizing, at least 1.
        crop: height and width in pixels of the result, at most ``resize``.
        range: the stored values that become 0 and 255 in images of more than 8 bits; applied
            first, see `occ_lab.data.value_range.eight_bits`. None if there are no such images.

    Raises:
        ValueError: a size is out of range.

    Example:
        >>> Preprocessing(resize=64, crop=56)(np.zeros((100, 80, 3), np.uint8)).shape
        (56, 56, 3)
    """

    resize: int = 256
    crop: int = 224
    range: Range | None = field(default=None, kw_only=True, repr=False)

    def __post_init__(self) -> None:
        check_size(self.resize, self.crop)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the result."""
        return self.crop, self.crop

    def box(self, height: int, width: int) -> Box:
        """The part of the result that an image of this size fills: all of it."""
        return Box(0, 0, self.crop, self.crop)

    def shown(self, height: int, width: int) -> Box:
        """The part of an image of this size that the result shows, in pixels of the image."""
        side, start = self.resize, (self.resize - self.crop) // 2
        (top, bottom), (left, right) = (
            (round(start * full / side), round((start + self.crop) * full / side))
            for full in (height, width)
        )
        return Box(top, left, max(1, bottom - top), max(1, right - left))

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Transform a uint8 RGB image ``[h, w, 3]`` to uint8 ``[crop, crop, 3]``."""
        pixels: np.ndarray = self._steps()(image=image)["image"]
        return pixels

    def of_mask(self, mask: np.ndarray) -> np.ndarray:
        """Transform a bool mask ``[h, w]`` to ``[crop, crop]`` by nearest neighbour."""
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

    The seed determines the rotation and the crop, so an image and its mask are transformed alike.
    One object transforms every image in the same way, so make one object for each image; they are
    cheap.

    Args:
        resize: height and width in pixels after resizing, at least 1.
        crop: height and width in pixels of the result, at most ``resize``.
        rotate: the largest angle in degrees, in 0..180; borders are reflected.
        random_crop: whether to crop at a random position instead of at the centre.
        seed: the seed of the angle and the position.

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


@dataclass(frozen=True)
class WholeImage:
    """Resize an image to fit into a frame: nothing is cut off, and the aspect ratio is kept.

    The rest of the frame is filled with a reflection of the image, so that features near the border
    look like those of an image that continues. Repeated border pixels would be a texture that no
    real image has, and good images of an unusual shape would score high. The added pixels take no
    part in fit, scores and maps.

    Args:
        height: the height of the frame in pixels, at least 1.
        width: likewise.
        rotate: the largest angle in degrees of a random rotation that comes first, in 0..180.
        seed: the seed of the angle.
        range: see `Preprocessing`.

    Raises:
        ValueError: a number is out of range.

    Example:
        >>> frame = WholeImage(192, 256)
        >>> frame(np.zeros((480, 640, 3), np.uint8)).shape
        (192, 256, 3)
        >>> frame.box(480, 640)
        Box(top=0, left=0, height=192, width=256)
        >>> frame.box(640, 480)
        Box(top=0, left=48, height=192, width=144)
    """

    height: int
    width: int
    rotate: float = 0.0
    seed: int = 0
    range: Range | None = field(default=None, kw_only=True, repr=False)

    def __post_init__(self) -> None:
        for name, side in (("height", self.height), ("width", self.width)):
            check_number(name, side, at_least=1, at_most=LARGEST_SIDE, integer=True)

    @classmethod
    def of(
        cls, sizes: Sequence[tuple[int, int]], longer: int, multiple: int = MULTIPLE
    ) -> WholeImage:
        """The frame that nearly all images fit into with their longer side as requested.

        Images of one aspect ratio fill it. Up to one image in twenty may have a shape that does not
        fit; such an image is reduced a little more. Sides are rounded up to a multiple.

        Args:
            sizes: height and width of the images.
            longer: the length of their longer side after resizing, in pixels.
            multiple: the sides of the frame are multiples of this number of pixels.

        Example:
            >>> WholeImage.of([(480, 640)] * 9, longer=256)
            WholeImage(height=192, width=256, rotate=0.0, seed=0)
            >>> WholeImage.of([(480, 640), (640, 480)], longer=256).size
            (256, 256)
        """
        fitted = [contained(size, (longer, longer)) for size in sizes] or [(longer, longer)]
        sides = (np.quantile(side, MOST, method="higher") for side in zip(*fitted, strict=True))
        height, width = (multiple * math.ceil(side / multiple) for side in sides)
        return cls(height, width)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the frame."""
        return self.height, self.width

    def box(self, height: int, width: int) -> Box:
        """The position of an image of this size in the frame: as near to the centre as possible."""
        inside = contained((height, width), self.size)
        top, left = (
            (full - side) // 2 // ALIGNED * ALIGNED
            for full, side in zip(self.size, inside, strict=True)
        )
        return Box(top, left, *inside)

    def shown(self, height: int, width: int) -> Box:
        """The part of an image of this size that the frame shows: all of it."""
        return Box(0, 0, height, width)

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Transform a uint8 RGB image ``[h, w, 3]`` to uint8 ``[height, width, 3]``."""
        image, _ = self._rotated(image)
        box = self.box(*image.shape[:2])
        pixels = resized(image, (box.height, box.width), Image.Resampling.LANCZOS)
        return np.pad(pixels, (*self._margins(box), (0, 0)), mode="symmetric")

    def of_mask(self, mask: np.ndarray) -> np.ndarray:
        """Transform a bool mask ``[h, w]`` to ``[height, width]``; false around the image."""
        _, pixels = self._rotated(mask.astype(np.uint8))
        box = self.box(*pixels.shape)
        inside = resized(pixels, (box.height, box.width), Image.Resampling.NEAREST)
        return np.pad(inside, self._margins(box)).astype(bool)

    def _margins(self, box: Box) -> tuple[tuple[int, int], tuple[int, int]]:
        return (
            (box.top, self.height - box.top - box.height),
            (box.left, self.width - box.left - box.width),
        )

    def _rotated(self, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Rotate an image by an angle drawn with the seed; a mask is returned twice."""
        if not self.rotate:
            return pixels, pixels
        rotation = A.Rotate(limit=self.rotate, border_mode=REFLECT, p=1.0)
        turned = A.Compose([rotation], seed=self.seed)(image=pixels, mask=pixels)
        return turned["image"], turned["mask"]


def turned(image: np.ndarray, angle: float) -> np.ndarray:
    """A uint8 image ``[h, w, 3]`` rotated about its centre, counterclockwise by degrees.

    Its size stays the same; what comes in at the border is its reflection.

    Example:
        >>> image = np.zeros((3, 3, 3), np.uint8)
        >>> image[0, 1] = 9
        >>> turned(image, 90)[..., 0].tolist()
        [[0, 0, 0], [9, 0, 0], [0, 0, 0]]
    """
    rotation = A.Rotate(limit=(angle, angle), border_mode=REFLECT, p=1.0)
    rotated: np.ndarray = A.Compose([rotation])(image=image)["image"]
    return rotated


Frame: TypeAlias = Preprocessing | WholeImage | Tiles


def frame_of(described: Mapping[str, Any]) -> Frame:
    """The frame that a result of `describe_frame` describes.

    Example:
        >>> frame_of({"resize": 256, "crop": 224})
        Preprocessing(resize=256, crop=224)
    """
    given = {**described, "range": as_range(described.get("range"))}
    if "tile" in given:
        return Tiles(**given)
    return WholeImage(**given) if "height" in given else Preprocessing(**given)


def describe_frame(frame: Frame) -> dict[str, Any]:
    """A frame as plain data, for checkpoints, caches and states."""
    range = None if frame.range is None else list(frame.range)
    if isinstance(frame, WholeImage):
        return {"height": frame.height, "width": frame.width, "range": range}
    return {**asdict(frame), "range": range}


def contained(size: tuple[int, int], frame: tuple[int, int]) -> tuple[int, int]:
    """Height and width of an image that is resized to fit into a frame, at least 1 each."""
    scale = min(frame[0] / size[0], frame[1] / size[1])
    height, width = (
        min(most, max(1, round(side * scale))) for side, most in zip(size, frame, strict=True)
    )
    return height, width


def at_full_size(maps: Tensor, box: Box, shown: Box, size: tuple[int, int]) -> Tensor:
    """Resize a map of preprocessed pixels to a map of the whole image.

    Args:
        maps: ``[h, w]``, over preprocessed pixels.
        box: the part of these pixels that the image fills, see `Preprocessing.box`.
        shown: the part of the image that they show, see `Preprocessing.shown`.
        size: height and width of the image.

    Returns:
        ``[*size]``; zero at pixels that the network has not seen.

    Example:
        >>> import torch
        >>> cropped = Preprocessing(4, 2)
        >>> at_full_size(torch.ones(2, 2), cropped.box(4, 4), cropped.shown(4, 4), (4, 4))
        tensor([[0., 0., 0., 0.],
                [0., 1., 1., 0.],
                [0., 1., 1., 0.],
                [0., 0., 0., 0.]])
    """
    inside = maps[box.top : box.top + box.height, box.left : box.left + box.width]
    wanted = (shown.height, shown.width)
    if inside.shape != wanted:
        inside = F.interpolate(inside[None, None], wanted, mode="bilinear")[0, 0]
    if wanted == size:
        return inside
    full = inside.new_zeros(size)
    full[shown.top : shown.top + shown.height, shown.left : shown.left + shown.width] = inside
    return full


def resized(pixels: np.ndarray, size: tuple[int, int], how: Image.Resampling) -> np.ndarray:
    """Resize uint8 pixels ``[h, w]`` or ``[h, w, 3]`` with Pillow."""
    if pixels.shape[:2] == size:
        return pixels
    return np.array(Image.fromarray(pixels).resize(size[::-1], how))


class LanczosResize(A.DualTransform):  # type: ignore[misc]  # albumentations is not typed
    """Resize to a square: images by Lanczos with antialiasing, masks by nearest neighbour.

    Pillow is used because OpenCV's Lanczos does not antialias when it reduces an image.

    Args:
        side: height and width of the result in pixels.
    """

    def __init__(self, side: int) -> None:
        super().__init__(p=1.0)
        self.side = side

    def apply(self, img: np.ndarray, **params: Any) -> np.ndarray:
        """Resize a uint8 image ``[h, w, 3]``."""
        return resized(img, (self.side, self.side), Image.Resampling.LANCZOS)

    def apply_to_mask(self, mask: np.ndarray, **params: Any) -> np.ndarray:
        """Resize a uint8 mask ``[h, w]``."""
        return resized(mask, (self.side, self.side), Image.Resampling.NEAREST)
