"""Anomaly maps and thumbnails, small enough for ten thousand of them on one page."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass

import matplotlib
import numpy as np
from PIL import Image

from occ_lab.reporting.gallery.scale import Scale

MAP_SIDE = 160  # pixels of the longer side of a stored map
THUMB_SIDE = 160
LEVELS = 255  # values that a stored map distinguishes
OPACITY = 0.85  # of a thumbnail's colours, where they are strongest
DARKEST = 0.35  # where the colour map begins; below it would darken the image


@dataclass(frozen=True)
class StoredMap:
    """An anomaly map of 8 bits.

    Attributes:
        png: a PNG file of one channel; 0 stands for ``low`` and 255 for ``high``.
        low: the least value of the map.
        high: its largest value.
    """

    png: bytes
    low: float
    high: float

    @property
    def url(self) -> str:
        """The file as text that a page can show."""
        return "data:image/png;base64," + base64.b64encode(self.png).decode()


def stored_map(values: np.ndarray) -> StoredMap:
    """A map, float ``[h, w]``, made smaller and rounded to 8 bits.

    A pixel of the smaller map is the largest of those that it stands for, so that no peak is lost.
    """
    small = pooled(values, MAP_SIDE)
    low, high = float(small.min()), float(small.max())
    span = max(high - low, float(np.finfo(np.float32).tiny))
    pixels = np.round((small - low) / span * LEVELS).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "png", compress_level=6)
    return StoredMap(buffer.getvalue(), low, high)


def pooled(values: np.ndarray, side: int) -> np.ndarray:
    """The largest values of blocks, such that the longer side has at most ``side`` of them.

    Example:
        >>> pooled(np.arange(12.0).reshape(2, 6), side=3)
        array([[ 7.,  9., 11.]])
    """
    block = -(-max(values.shape) // side)
    if block == 1:
        return values
    rows, columns = (-(-length // block) * block for length in values.shape)
    padded = np.full((rows, columns), -np.inf, values.dtype)
    padded[: values.shape[0], : values.shape[1]] = values
    blocks = padded.reshape(rows // block, block, columns // block, block)
    return np.asarray(blocks.max(axis=(1, 3)))


def thumbnail(pixels: np.ndarray, heat: np.ndarray | None, scale: Scale | None) -> bytes:
    """A small JPEG file of an image, with the colours of its map on top.

    Args:
        pixels: uint8 ``[h, w, 3]``.
        heat: the map of these pixels, float ``[H, W]``; None where there is none.
        scale: which values have which colours; None shows the image alone.
    """
    image = Image.fromarray(pixels)
    image.thumbnail((THUMB_SIDE, THUMB_SIDE), Image.Resampling.BILINEAR, reducing_gap=2)
    if heat is not None and scale is not None:
        strength = scale.strength(heat)
        colours = matplotlib.colormaps["inferno"](DARKEST + (1 - DARKEST) * strength, bytes=True)
        colours[..., 3] = (255 * OPACITY * strength).astype(np.uint8)
        layer = Image.fromarray(colours).resize(image.size, Image.Resampling.BILINEAR)
        image.paste(layer, mask=layer)
    buffer = io.BytesIO()
    image.save(buffer, "jpeg", quality=80)
    return buffer.getvalue()
