"""Rectangles of pixels."""

from __future__ import annotations

from typing import NamedTuple


class Box(NamedTuple):
    """A rectangle of pixels: its first row and column, its height and its width."""

    top: int
    left: int
    height: int
    width: int
