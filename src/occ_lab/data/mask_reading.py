"""Reading masks: which pixels of an image are anomalous."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from occ_lab.data.files import image_files
from occ_lab.data.images import opened
from occ_lab.data.orientation import orientation, oriented
from occ_lab.data.pixel_values import beginning, numbers, wide, wide_values
from occ_lab.utils.errors import ImageError

# Formats whose decoded values may differ from the values that were saved.
LOSSY = {"JPEG", "MPO", "AVIF", "HEIF"}


def read_mask(path: Path) -> np.ndarray:
    """Read a mask file: pixels with any non-zero stored value are anomalous.

    The masks of a folder are joined: a pixel is anomalous if it is in any of them.

    In JPEG and other lossy formats, these are the pixels above half of the highest value. The alpha
    channel is used as the mask if the colours alone mark everything or nothing.

    Returns:
        bool ``[h, w]``.

    Raises:
        ImageError: a file is missing, truncated, too large or not an image, or the files of a
            folder differ in size.
    """
    if path.is_dir():
        masks = [read_mask(file) for file in mask_files(path)]
        if len({mask.shape for mask in masks}) > 1:
            raise ImageError(f"{path}: the masks in it differ in size")
        joined: np.ndarray = np.logical_or.reduce(masks)
        return joined
    with opened(path) as file:
        if isinstance(file, np.ndarray):
            return anywhere(file != 0)
        lossy = is_lossy(file)
        if wide(file):
            values = wide_values(file)
            values, alpha = values[..., :3], values[..., 3:]
        else:
            file.load()
            values, alpha = values_and_alpha(file)
        turn = orientation(file)

    def nonzero(channel: np.ndarray) -> np.ndarray:
        return anywhere(channel > channel.max() / 2 if lossy else channel != 0)

    marked = nonzero(values)
    if alpha.size and alpha.min() != alpha.max() and (marked.all() or not marked.any()):
        marked = nonzero(alpha)
    return np.ascontiguousarray(oriented(marked, turn))


def stored_values(path: Path) -> np.ndarray:
    """The values that an image file of one channel stores, ``[h, w]``, such as kinds of defects.

    Of several channels, the highest value is returned.

    Raises:
        ImageError: the file is missing, truncated, too large or not an image.
    """
    with opened(path) as file:
        if isinstance(file, np.ndarray):
            return file
        file.load()
        values, _ = values_and_alpha(file)
    return values if values.ndim == 2 else values.max(axis=-1)


def mask_files(path: Path) -> list[Path]:
    """The files of a mask: those in it if it is a folder, otherwise itself.

    Raises:
        ImageError: the folder holds no image.
    """
    if not path.is_dir():
        return [path]
    files = image_files(path)
    if not files:
        raise ImageError(f"{path}: this folder holds no mask")
    return files


def values_and_alpha(file: Image.Image) -> tuple[np.ndarray, np.ndarray]:
    """The stored values ``[h, w(, C)]`` of a mask, and its alpha channel, empty without one."""
    none = np.empty(0)
    if file.mode == "P":
        index = np.asarray(file)
        colours = np.array(file.getpalette("RGB")).reshape(-1, 3)
        used = np.unique(index)
        black = used[~colours[np.minimum(used, len(colours) - 1)].any(axis=1)]
        # The first entry of the palette of a black-and-white picture may be white.
        return (~np.isin(index, black) if len(black) and 0 not in black else index), none
    if file.mode in ("LA", "La", "PA", "RGBA", "RGBa"):
        straight = np.asarray(file)
        return straight[..., :-1], straight[..., -1]
    if numbers(file) or file.mode in ("1", "L", "RGB"):
        return np.asarray(file), none
    return np.asarray(file.convert("RGB")), none


def is_lossy(file: Image.Image) -> bool:
    """Whether the decoded values of an image may differ from those that were saved."""
    if file.format == "WEBP":
        return b"VP8L" not in beginning(file)
    return file.format in LOSSY or file.info.get("compression") == "jpeg"


def anywhere(marked: np.ndarray) -> np.ndarray:
    """The pixels that are marked in any channel: bool ``[h, w]`` from bool ``[h, w(, C)]``."""
    return np.asarray(marked if marked.ndim == 2 else marked.any(axis=-1))
