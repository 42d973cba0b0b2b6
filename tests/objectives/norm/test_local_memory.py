"""The memory limit of the local closed form, which enlarges cells."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from occ_lab.features.cells import Cells
from occ_lab.objectives.norm.local_moments import LocalMoments
from occ_lab.objectives.norm.objective import Norm
from occ_lab.utils.errors import InputError
from tests.objectives.norm.test_local_form import fitted, scores, some_levels
from tests.objectives.runs import run_and_load

SIX_CELLS = 6 * 8 * 5**2 / 1e6  # MB for 5 channels


@given(
    size=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    cell=st.integers(1, 9),
    most=st.integers(1, 99),
)
def test_cells_are_the_smallest_of_which_there_are_few_enough(
    size: tuple[int, int], cell: int, most: int
) -> None:
    cells = Cells.of(cell, size, most)
    assert cells.count <= most
    smaller = [Cells.of(each, size) for each in range(cell, max(cells.side))]
    assert all(each.count > most for each in smaller)
    assert Cells.of(cell, size, cells.count) == cells  # how a projector finds them again


@pytest.mark.parametrize("bias", ["solved", "flow"])
def test_it_is_the_form_of_larger_cells(bias: str, caplog: pytest.LogCaptureFixture) -> None:
    train, test = some_levels(0), some_levels(1)  # maps of 6 × 5, 30 positions
    with caplog.at_level(logging.INFO):
        bounded = fitted(train, cell=1, bias=bias, memory_mb=SIX_CELLS)
    assert "for 30 cells; it uses 4 larger cells" in caplog.text
    larger = fitted(train, cell=3, bias=bias)
    assert bounded[0].local is not None
    assert torch.equal(scores(bounded, test), scores(larger, test))
    assert bounded[0].local.squares.nbytes <= SIX_CELLS * 1e6


def test_a_single_cell_is_the_least() -> None:
    train, test = some_levels(0), some_levels(1)
    least = fitted(train, cell=2, bias="solved", memory_mb=1e-9)
    assert torch.equal(scores(least, test), scores(fitted(train, bias="solved"), test))


def test_nothing_is_said_where_it_does_not_act(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        fitted(some_levels(0), cell=1, bias="solved")
    assert "memory_mb" not in caplog.text


@pytest.mark.parametrize("bias", ["solved", "flow"])
@pytest.mark.parametrize("memory_mb", [512.0, SIX_CELLS])
def test_larger_images_are_refused(bias: str, memory_mb: float) -> None:
    """Twice as large, they would have as many cells of twice the size."""
    made = fitted(some_levels(0), cell=1, bias=bias, memory_mb=memory_mb)
    with pytest.raises(InputError, match="must have the size"):
        scores(made, some_levels(1, size=(12, 10)))


def test_moments_of_other_cells_do_not_add_up() -> None:
    bounded, whole = LocalMoments(1, memory_mb=SIX_CELLS), LocalMoments(1)
    for moments in (bounded, whole):
        moments.update(some_levels(0))
    with pytest.raises(InputError, match="30 cells and of 4 cells"):
        whole.add(bounded.state())
    bounded.add(bounded.state())
    assert bounded.n == 8


def test_it_is_above_zero() -> None:
    with pytest.raises(ValueError, match="memory_mb must be"):
        Norm(solver="closed_form", cell=2, memory_mb=0)


def test_a_checkpoint_scores_as_its_run_did(tmp_path: Path) -> None:
    local = ["loss=norm", "loss.solver=closed_form", "loss.cell=1", "loss.bias=solved"]
    written, loaded = run_and_load(tmp_path, *local, "loss.time=3", "loss.memory_mb=2")
    torch.testing.assert_close(loaded, written, rtol=1e-4, atol=1e-5)
