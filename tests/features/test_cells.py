"""Grids of cells over maps of any size."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from occ_lab.features.cells import Cells

SIDES = st.integers(1, 13)


@given(height=SIDES, width=SIDES, cell=st.none() | st.integers(1, 6))
def test_every_position_is_in_one_cell(height: int, width: int, cell: int | None) -> None:
    cells = Cells.of(cell, (height, width))
    numbers = torch.arange(1, height * width + 1).double().view(1, 1, height, width)
    parts = cells.split(numbers)
    assert parts.shape == (cells.count, 1, cells.area, 1)
    assert sorted(parts[parts > 0].tolist()) == numbers.flatten().tolist()
    assert torch.equal(cells.merge(parts), numbers)
    assert torch.equal(cells.sizes, (parts > 0).sum(dim=(1, 2, 3)))
    assert torch.equal(cells.mask[:, None], parts > 0)


@given(height=SIDES, width=SIDES, cell=st.integers(1, 6))
def test_cells_at_the_border_have_at_least_half_a_side(height: int, width: int, cell: int) -> None:
    cells = Cells.of(cell, (height, width))
    grid = cells.sizes.view(cells.grid)
    for sides, side in ((grid[:, 0], cells.side[0]), (grid[0], cells.side[1])):
        along = sides / sides.max() * side
        assert (along >= side / 2).all()
    assert grid.sum() == height * width


@given(batch=st.integers(1, 3), height=SIDES, width=SIDES, cell=st.integers(1, 6))
def test_vectors_come_back_to_their_positions(
    batch: int, height: int, width: int, cell: int
) -> None:
    maps = torch.randn(batch, 3, height, width)
    cells = Cells.of(cell, (height, width))
    assert torch.equal(cells.merge(cells.split(maps)), maps)
    dense = maps.contiguous(memory_format=torch.channels_last)
    assert torch.equal(cells.split(dense), cells.split(maps))
