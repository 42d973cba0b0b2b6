"""Images in any form that a program may hold them in, converted to arrays."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from PIL import Image
from torch import Tensor

from occ_lab.data.images import read_pixels, shown
from occ_lab.data.value_range import Range, eight_bits

AnyImage: TypeAlias = str | Path | bytes | Image.Image | np.ndarray | Tensor


def as_images(images: AnyImage | Iterable[AnyImage]) -> Iterable[AnyImage]:
    """Wrap one image, or pass on many, as an iterable of images.

    Args:
        images: a path, the content of a file, a PIL image, an array or a tensor; a batch of arrays
            or tensors with the images along the first of four axes; or any iterable of images,
            including generators and ``Path.glob(...)``.

    Raises:
        ValueError: the batch is empty.

    Example:
        >>> len(list(as_images(np.zeros((2, 8, 8, 3), np.uint8))))
        2
    """
    if isinstance(images, Tensor | np.ndarray):
        if not images.shape or 0 in images.shape:
            raise ValueError(f"there is no image in {describe(images)}")
        return list(images) if images.ndim == 4 else [images]
    if isinstance(images, str | Path | bytes | Image.Image):
        return [images]
    return images


def as_rgb(image: AnyImage, range: Range | None = None) -> np.ndarray:
    """Convert any image to uint8 ``[h, w, 3]``.

    Args:
        image: the path of a file or its content as bytes, a PIL image, an array ``[h, w]`` or
            ``[h, w, 3]``, or a tensor ``[3, h, w]``. Values are uint8, floats in 0..1, or larger
            integers.
        range: the stored values that become 0 and 255 in files of more than 8 bits and in larger
            integers; with None such images are refused.

    Raises:
        OSError: a file cannot be read, or the bytes are no image.
        ValueError: an array or tensor is not an image, or a range is needed.

    Example:
        >>> as_rgb(np.zeros((8, 6), np.uint8)).shape
        (8, 6, 3)
    """
    if isinstance(image, bytes):
        return eight_bits(read_pixels(image), range)
    if isinstance(image, str | Path):
        return eight_bits(read_pixels(Path(image)), range, image)
    if isinstance(image, Image.Image):
        return eight_bits(shown(image), range)
    if isinstance(image, Tensor):
        pixels = image.detach().cpu().movedim(0, -1).numpy() if image.ndim == 3 else np.empty(0)
    else:
        pixels = image
    if not isinstance(pixels, np.ndarray) or pixels.ndim not in (2, 3) or not pixels.size:
        raise ValueError(f"no image: {describe(image)}; give [h, w, 3], or a tensor [3, h, w]")
    if np.issubdtype(pixels.dtype, np.floating):
        if not (pixels.min() >= 0 and pixels.max() <= 1):
            raise ValueError(f"no image: {describe(image)} has values outside 0..1")
        pixels = (pixels * 255).round().astype(np.uint8)
    if not np.issubdtype(pixels.dtype, np.integer):
        raise ValueError(f"no image: {describe(image)}; values must be integers, or floats in 0..1")
    if pixels.ndim == 3 and pixels.shape[2] not in (1, 3, 4):
        raise ValueError(f"no image: {describe(image)} has no 1, 3 or 4 colours last")
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[..., 0]
    return eight_bits(pixels[..., :3] if pixels.ndim == 3 else pixels, range)


def describe(image: Any) -> str:
    """The type and shape of an object, for an error message."""
    shape = list(getattr(image, "shape", ()))
    return f"{type(image).__name__} {getattr(image, 'dtype', '')} {shape}"
