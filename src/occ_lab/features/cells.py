"""A grid of cells over feature maps: every position belongs to exactly one cell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from occ_lab.features.levels import unit_scale, upsampled


@dataclass(frozen=True)
class Cells:
    """The cells of maps of H × W positions.

    All inner cells have the same size. If it does not divide the map, the grid is centred, and the
    cells at the border are smaller, but have at least half of the full side. A map that is smaller
    than a cell is a single cell.

    Attributes:
        height: H.
        width: W.
        side: the number of positions along the two sides of an inner cell.

    Example:
        >>> Cells.of(4, (56, 56)).grid
        (14, 14)
        >>> Cells.of(4, (6, 1)).sizes.tolist()  # two cells of three positions, of one column
        [3, 3]
        >>> Cells.of(None, (56, 56)).count
        1
    """

    height: int
    width: int
    side: tuple[int, int]

    @classmethod
    def of(cls, cell: int | None, size: Sequence[int], most: int | None = None) -> Cells:
        """The cells of maps of a given size.

        Args:
            cell: the number of positions along a side, at least 1; None makes the map one cell.
            size: H and W, each at least 1.
            most: the largest number of cells, at least 1; cells are enlarged to stay within it.

        Example:
            >>> Cells.of(4, (56, 56), most=100).side
            (6, 6)
        """
        height, width = size
        wanted = max(height, width) if cell is None else cell
        while True:
            cells = cls(height, width, (min(wanted, height), min(wanted, width)))
            if most is None or cells.count <= max(1, most):
                return cells
            wanted += 1

    @property
    def grid(self) -> tuple[int, int]:
        """The number of cells along the height and along the width."""
        return -(-self.height // self.side[0]), -(-self.width // self.side[1])

    @property
    def count(self) -> int:
        """G, the number of cells."""
        rows, columns = self.grid
        return rows * columns

    @property
    def area(self) -> int:
        """P, the number of positions of an inner cell."""
        return self.side[0] * self.side[1]

    @property
    def _padding(self) -> tuple[int, int, int, int]:
        """Positions to add left, right, above and below to complete the cells at the border."""
        rows, columns = self.grid
        across, down = columns * self.side[1] - self.width, rows * self.side[0] - self.height
        return across // 2, across - across // 2, down // 2, down - down // 2

    @property
    def mask(self) -> Tensor:
        """The positions of each cell that lie on the map: bool ``[G, P, 1]``."""
        return self.split(torch.ones(1, 1, self.height, self.width))[:, 0] > 0

    @property
    def sizes(self) -> Tensor:
        """The number of positions of each cell, int64 ``[G]``, row by row over the grid."""
        return self.mask.sum(dim=(1, 2))

    def split(self, *maps: Tensor) -> Tensor:
        """The vectors of each cell, with the channels of several maps concatenated.

        Args:
            maps: each ``[B, C_l, H, W]``; channels-last memory is fastest.

        Returns:
            A copy, ``[G, B, P, ΣC_l]``; zero at positions of a cell that lie outside of the map.
        """
        (rows, columns), (down, across) = self.grid, self.side
        parts = []
        for each in maps:
            x = each.permute(0, 2, 3, 1)
            if any(self._padding):
                x = F.pad(x, (0, 0, *self._padding))
            x = x.reshape(len(each), rows, down, columns, across, each.shape[1])
            parts.append(x.permute(1, 3, 0, 2, 4, 5))
        joined = torch.cat(parts, dim=-1)  # one copy concatenates levels and sorts positions
        return joined.reshape(self.count, len(maps[0]), self.area, -1)

    def features(self, levels: Sequence[Tensor], normalize: bool) -> Tensor:
        """The concatenated levels at the positions of each cell.

        Args:
            levels: ``[B, C_l, H_l, W_l]``, finest first.
            normalize: whether to scale each feature vector to length √C first.

        Returns:
            A copy, ``[G, B, P, ΣC_l]``.
        """
        # In channels-last memory, the channels of a position are copied to its cell in one piece.
        levels = [level.contiguous(memory_format=torch.channels_last) for level in levels]
        x = self.split(*upsampled(levels))
        return x * self.split(unit_scale(levels)) if normalize else x

    def merge(self, parts: Tensor) -> Tensor:
        """Undo `split`: the maps ``[B, C, H, W]`` of ``parts`` ``[G, B, P, C]``.

        The result is channels-last in memory.

        Example:
            >>> cells, maps = Cells.of(4, (5, 6)), torch.rand(2, 3, 5, 6)
            >>> bool((cells.merge(cells.split(maps)) == maps).all())
            True
        """
        (rows, columns), (down, across) = self.grid, self.side
        batch, channels = parts.shape[1], parts.shape[3]
        x = parts.reshape(rows, columns, batch, down, across, channels).permute(2, 0, 3, 1, 4, 5)
        x = x.reshape(batch, rows * down, columns * across, channels)
        left, _, top, _ = self._padding
        x = x[:, top : top + self.height, left : left + self.width]
        return x.permute(0, 3, 1, 2)
