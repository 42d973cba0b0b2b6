"""Rectangles of pixels."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Box(NamedTuple):
    """A rectangle of pixels: its first row and column, its height and its width."""

    top: int
    left: int
    height: int
    width: int


def cut(values: np.ndarray, box: Box) -> np.ndarray:
    """The part of an array ``[h, w, ...]`` that is in a box."""
    return values[box.top : box.top + box.height, box.left : box.left + box.width]


def fractions(box: Box, size: tuple[int, int]) -> tuple[float, float, float, float]:
    """A box as fractions of an image: top, left, height and width.

    Args:
        box: in pixels.
        size: height and width of the image in pixels.

    Example:
        >>> fractions(Box(10, 0, 80, 200), (100, 200))
        (0.1, 0.0, 0.8, 1.0)
    """
    height, width = size
    return box.top / height, box.left / width, box.height / height, box.width / width
