"""Stored values of more than 8 bits, and the range of them that becomes 0 to 255."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from occ_lab.utils.errors import ImageError

Range = tuple[float, float]

BITS = (8, 10, 12, 14, 16, 20, 24, 32, 64)  # of a camera's values, whatever the file format uses
SIXTEEN_BITS: Range = (0, 65535)  # the range of all runs before it could be chosen


def as_range(given: Sequence[Any] | None) -> Range | None:
    """The lowest and the highest stored value, as given by a user.

    Raises:
        ValueError: they are not two finite numbers in order; the message begins with ``range``.

    Example:
        >>> as_range([0, 4095])
        (0, 4095)
    """
    if given is None:
        return None
    values = () if isinstance(given, str) else tuple(given)
    numbers = all(isinstance(each, int | float) and not isinstance(each, bool) for each in values)
    if len(values) != 2 or not numbers or not np.isfinite(values).all() or values[0] >= values[1]:
        raise ValueError(f"range must be two numbers, the lower one first, got {given!r}")
    return values[0], values[1]


class Extremes(NamedTuple):
    """The extreme values of an image.

    Attributes:
        low: its lowest value.
        high: its highest value.
        whole: whether its dtype is an integer type.
    """

    low: float
    high: float
    whole: bool


def extremes_of(values: np.ndarray) -> Extremes:
    """The extreme values of an array of any shape and dtype."""
    whole = not np.issubdtype(values.dtype, np.floating)
    return Extremes(values.min().item(), values.max().item(), whole)


def range_of(images: Iterable[Extremes]) -> Range:
    """The range that contains all values of images of more than 8 bits.

    For integers it begins with 0 and ends with the highest value of the smallest usual number of
    bits, 8, 10, 12, 14 or 16, that can hold their maximum: a 12-bit camera has 0 to 4095, although
    its files have 16 bits. For floats and negative integers it is their minimum and maximum.

    Args:
        images: the extreme values of each image; at least one.

    Example:
        >>> range_of([Extremes(7, 900, whole=True), Extremes(30, 2700, whole=True)])
        (0, 4095)
        >>> range_of([Extremes(-0.25, 1.5, whole=False)])
        (-0.25, 1.5)
    """
    lows, highs, whole = zip(*images, strict=True)
    low, high = min(lows), max(highs)
    if all(whole) and low >= 0:
        return 0, 2 ** next(bits for bits in BITS if high < 2**bits) - 1
    return low, high if high > low else low + 1


def eight_bits(values: np.ndarray, range: Range | None, name: object = "image") -> np.ndarray:
    """Convert stored values to 8-bit RGB; values outside of the range become 0 or 255.

    Args:
        values: ``[h, w]`` or ``[h, w, 3]`` of any dtype.
        range: the values that become 0 and 255; may be None for uint8, which is not changed.
        name: the name of the image, for the message.

    Returns:
        uint8 ``[h, w, 3]``.

    Raises:
        ImageError: a range is needed but not given, or a value is not finite.

    Example:
        >>> eight_bits(np.array([[0, 2048, 4095]], np.uint16), (0, 4095))[0, :, 0].tolist()
        [0, 128, 255]
    """
    if values.dtype != np.uint8:
        if range is None:
            raise ImageError(
                f"{name}: its values have more than 8 bits ({values.dtype}, up to "
                f"{values.max()}), unlike those of the training images; save it with 8 bits, or "
                f"train with a range, such as range={list(range_of([extremes_of(values)]))}"
            )
        values = scaled(values, range, name)
    if values.ndim == 2:
        values = np.stack([values] * 3, axis=-1)
    return np.ascontiguousarray(values)


def scaled(values: np.ndarray, range: Range, name: object) -> np.ndarray:
    """Stretch a range of the values to 0..255; uint8 of the same shape."""
    low, high = range
    if values.dtype == np.uint16:  # a lookup table is faster
        table = scaled(np.arange(2**16, dtype=np.int32), range, name)
        return np.asarray(table[values])
    if not np.isfinite(values).all():
        raise ImageError(f"{name}: some values are not finite")
    stretched = (values - np.float64(low)) * (255 / (high - low))
    return np.asarray(stretched.round().clip(0, 255), np.uint8)


def range_line(range: Range, given: bool) -> str:
    """One line that describes the effect of a range.

    Example:
        >>> range_line((0, 4095), given=False)
        'values of more than 8 bits: 0 to 4095 (12 bits) become 0 to 255, by the training images'
    """
    low, high = range
    bits = next((bits for bits in BITS if (low, high) == (0, 2**bits - 1)), None)
    depth = f" ({bits} bits)" if bits else ""
    source = "as given" if given else "by the training images"
    return f"values of more than 8 bits: {low:g} to {high:g}{depth} become 0 to 255, {source}"
