"""Tiles of large images at full resolution, so that small defects keep their pixels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from torch import Tensor

from occ_lab.data.base import LARGEST_SIDE, MULTIPLE
from occ_lab.data.boxes import Box
from occ_lab.data.value_range import Range
from occ_lab.utils.errors import InputError, check_number

AUTO = 256  # pixels; the side of the tiles that `auto` chooses
REDUCED = 4  # `auto` chooses tiles if a whole image would be reduced by more than this factor


@dataclass(frozen=True)
class Tiles:
    """Cuts an image into overlapping square tiles, each of which is one input of a network.

    Nothing is resized. Tiles begin at multiples of 16 pixels, so that the positions of all tiles
    form one grid over the image. The last tile of a row or column ends with the image. If an image
    is smaller than a tile, or its size is not a multiple of 16, it is extended by reflection; a
    repeated border would score twice as high as the image (experiments/tiles). The added pixels
    take no part in fit, scores and maps.

    Args:
        tile: the side of a tile in pixels, a multiple of 16.
        overlap: the smallest number of pixels that neighbours share, from 0 to half a tile. Scores
            are blended there.
        range: see `Preprocessing`.

    Raises:
        ValueError: a number is out of range.

    Example:
        >>> Tiles(256, 32).origins(600, 300)
        [(0, 0), (0, 48), (224, 0), (224, 48), (352, 0), (352, 48)]
    """

    tile: int
    overlap: int
    range: Range | None = field(default=None, kw_only=True, repr=False)

    def __post_init__(self) -> None:
        check_number("tile", self.tile, at_least=2 * MULTIPLE, at_most=LARGEST_SIDE, integer=True)
        check_number("overlap", self.overlap, at_least=0, at_most=self.tile // 2, integer=True)
        if self.tile % MULTIPLE:
            raise ValueError(f"tile must be a multiple of {MULTIPLE} pixels, got {self.tile}")

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the network's input."""
        return self.tile, self.tile

    def starts(self, length: int) -> list[int]:
        """The offsets of the tiles along a side of an image, in pixels."""
        step = (self.tile - self.overlap) // MULTIPLE * MULTIPLE
        last = max(0, -(-(length - self.tile) // MULTIPLE) * MULTIPLE)
        return [*range(0, last, step), last]

    def origins(self, height: int, width: int) -> list[tuple[int, int]]:
        """The top left corners of all tiles of an image, row by row."""
        return [(top, left) for top in self.starts(height) for left in self.starts(width)]

    def box_in(self, origin: tuple[int, int], size: tuple[int, int]) -> Box:
        """The part of a tile that lies in the image: all of it, unless the image ends in it."""
        height, width = (
            min(self.tile, side - start) for side, start in zip(size, origin, strict=True)
        )
        return Box(0, 0, height, width)

    def cut(self, image: np.ndarray, origin: tuple[int, int]) -> np.ndarray:
        """Cut a tile out of an image ``[h, w, 3]``; returns uint8 ``[tile, tile, 3]``."""
        (top, left), side = origin, self.tile
        part = image[top : top + side, left : left + side]
        margins = [(0, side - part.shape[0]), (0, side - part.shape[1]), (0, 0)]
        return np.pad(part, margins, mode="symmetric")

    def box(self, height: int, width: int) -> Box:
        """The whole image, because images are neither resized nor cropped."""
        return Box(0, 0, height, width)

    def shown(self, height: int, width: int) -> Box:
        """The part of an image that is used: all of it."""
        return Box(0, 0, height, width)

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Return the image unchanged; it is cut into tiles when it is scored."""
        return image

    def of_mask(self, mask: np.ndarray) -> np.ndarray:
        """Return the mask unchanged."""
        return mask

    def grid(self, size: tuple[int, int], stride: int) -> tuple[int, int]:
        """H and W of the stitched scores: the positions whose centres lie on the image."""
        height, width = (max(1, -((stride - 2 * side) // (2 * stride))) for side in size)
        return height, width

    def weights(self, length: int, positions: int) -> Iterator[tuple[int, np.ndarray]]:
        """The weights of the positions of each tile along a side, for blending where tiles overlap.

        Args:
            length: the length of the side of the image, in pixels.
            positions: the number of positions of a tile along its side.

        Yields:
            The index of the tile's first position in the stitched grid, and float32
            ``[positions]``: 1, falling linearly towards a neighbour within the overlap.
        """
        starts, stride = self.starts(length), self.tile // positions
        centres = (np.arange(positions) + 0.5) * stride
        for number, start in enumerate(starts):
            weight = np.ones(positions, np.float32)
            if number and (shared := starts[number - 1] + self.tile - start):
                weight *= np.minimum(centres / shared, 1)
            if number + 1 < len(starts) and (shared := start + self.tile - starts[number + 1]):
                weight *= np.minimum((self.tile - centres) / shared, 1)
            yield start // stride, weight


def chosen_tile(sizes: Sequence[tuple[int, int]], longer: int) -> int | None:
    """The size of tiles for ``tile=auto``: tiles are used if whole images would lose most pixels.

    Args:
        sizes: height and width of the images.
        longer: the length that the longer side of whole images is resized to.

    Returns:
        256 if half of the images would be reduced more than four times along a side; otherwise
        None.

    Example:
        >>> chosen_tile([(3000, 4000)], longer=256), chosen_tile([(480, 640)], longer=256)
        (256, None)
    """
    if not sizes:
        return None
    return AUTO if float(np.median([max(size) for size in sizes])) > REDUCED * longer else None


class Stitching:
    """Blends the scores of the tiles of an image into one map, batch by batch.

    Args:
        frame: the tiles.
        size: height and width of the image.

    Example:
        >>> import torch
        >>> frame = Tiles(32, 16)
        >>> stitching = Stitching(frame, (48, 32))
        >>> stitching.add(torch.ones(2, 8, 8))
        >>> stitching.map.shape, float(stitching.map.min())
        (torch.Size([12, 8]), 1.0)
    """

    def __init__(self, frame: Tiles, size: tuple[int, int]) -> None:
        self.frame = frame
        self.size = size
        self.done = 0
        self._sums: Tensor | None = None

    def add(self, scores: Tensor) -> None:
        """Add the scores of the next tiles, ``[n, H, W]``, in the order of `Tiles.origins`.

        Raises:
            InputError: the positions of the tiles do not form a common grid.
        """
        tall, wide = scores.shape[-2:]
        if self._sums is None:
            for positions in (tall, wide):
                if self.frame.tile % positions or MULTIPLE % (self.frame.tile // positions):
                    raise InputError(
                        f"tile: tiles of {self.frame.tile} px have {positions} positions a side, "
                        f"which form no common grid; the backbone's stride must divide {MULTIPLE}",
                        part="dataset",
                    )
            self._rows, self._columns = (
                [
                    (first, scores.new_tensor(weight))
                    for first, weight in self.frame.weights(side, count)
                ]
                for side, count in zip(self.size, (tall, wide), strict=True)
            )
            full = (self._rows[-1][0] + tall, self._columns[-1][0] + wide)
            self._sums = scores.new_zeros(full)
        for each in scores:
            row, column = divmod(self.done, len(self._columns))
            (top, down), (left, across) = self._rows[row], self._columns[column]
            part = self._sums[top : top + tall, left : left + wide]
            part += down[:, None] * across * each
            self.done += 1

    @property
    def map(self) -> Tensor:
        """The scores ``[H, W]`` of the image; call it after the scores of all tiles are added."""
        assert self._sums is not None
        full, totals = self._sums, []
        for length, parts in zip(full.shape, (self._rows, self._columns), strict=True):
            total = full.new_zeros(length)
            for first, weight in parts:
                total[first : first + len(weight)] += weight
            totals.append(total)
        stride = self.frame.tile // len(self._rows[0][1])
        height, width = self.frame.grid(self.size, stride)
        blended: Tensor = full / totals[0][:, None] / totals[1]
        return blended[:height, :width]
