"""Which centres of a bank are nearest, in full and in half precision."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from occ_lab.objectives.neighbours import grid, nearest_distances
from occ_lab.objectives.selection import GROUP, Bounds, Order, nearest_by_bounds, smallest


@given(
    seed=st.integers(0, 2**31),
    features=st.integers(1, 6),
    centres=st.integers(1, 9 * GROUP),
    count=st.integers(1, 8),
    levels=st.sampled_from([3, 10**6]),  # few values tie often
    half=st.booleans(),
)
def test_distances_are_those_of_plain_loops(
    seed: int, features: int, centres: int, count: int, levels: int, half: bool
) -> None:
    generator = torch.Generator().manual_seed(seed)
    x, bank = (
        torch.randint(levels, (n, 3), generator=generator).float() for n in (features, centres)
    )
    count = min(count, centres)
    found = nearest_distances(x, bank, count, half=half)
    for row, distances in zip(x.double(), found, strict=True):
        squared = sorted(float((row - centre).square().sum()) for centre in bank.double())
        assert distances.tolist() == pytest.approx(squared[:count], rel=1e-5, abs=1e-3)


@given(
    seed=st.integers(0, 2**31),
    channels=st.integers(1, 40),
    far=st.sampled_from([0.0, 1.0, 30.0]),  # from the mean of the bank, in its deviations
    spread=st.sampled_from([1e-3, 1.0, 1e3]),
    outlier=st.sampled_from([1.0, 100.0]),
    count=st.integers(1, 4),
)
@settings(deadline=None)
def test_what_half_precision_is_certain_of_is_right(
    seed: int, channels: int, far: float, spread: float, outlier: float, count: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    bank = spread * torch.randn(3 * GROUP + 5, channels, generator=generator)
    bank[0] *= outlier
    x = spread * (far + torch.randn(20, channels, generator=generator))
    distances, indices, certain = Bounds(Order(bank)).nearest(x, count)
    right = torch.cdist(x.double(), bank.double()).square()
    nearest = right.sort(dim=1).values[:, :count]
    found = right.gather(1, indices)
    torch.testing.assert_close(found[certain], nearest[certain], rtol=1e-5, atol=0)
    torch.testing.assert_close(distances.double(), found, rtol=1e-4, atol=1e-12)


def test_half_precision_is_certain_of_vectors_like_those_of_the_bank() -> None:
    generator = torch.Generator().manual_seed(0)
    # few directions that vary, as in features of images
    mixing = torch.randn(8, 60, generator=generator)
    x, bank = (torch.randn(n, 8, generator=generator) @ mixing for n in (200, 1500))
    _, _, certain = Bounds(Order(bank)).nearest(x, 3)
    assert certain.float().mean() > 0.95


@pytest.mark.parametrize("rows", [7, 100])
def test_what_is_not_certain_is_found_in_full_precision(rows: int) -> None:
    generator = torch.Generator().manual_seed(1)
    x, bank = torch.randn(100, 50, generator=generator), torch.randn(900, 50, generator=generator)
    bank[:, 0] = 0
    x[::2, 0] = 1e3  # so far away that all centres are about equally near
    if rows == 100:
        x = x[x.norm(dim=1).argsort(descending=True)]
    certain = Bounds(Order(bank)).nearest(x, 2)[2]
    assert 0 < certain.float().mean() < 0.6
    distances, indices = nearest_by_bounds(Order(bank), x, 2, chunk=rows)
    exact = torch.cdist(x.double(), bank.double())
    nearest = exact.sort(dim=1).values[:, :2]
    torch.testing.assert_close(exact.gather(1, indices), nearest, rtol=1e-6, atol=0)
    torch.testing.assert_close(distances.double().sqrt(), nearest, rtol=1e-5, atol=0)


def test_a_feature_that_is_not_a_number_spoils_no_other() -> None:
    bank = torch.arange(3.0 * GROUP)[:, None]
    x = torch.tensor([[5.25], [torch.nan], [7.5]])
    found = nearest_distances(x, bank, 1, half=True)[:, 0]
    assert found[1].isnan()
    assert found[[0, 2]].tolist() == [0.0625, 0.25]


def test_a_window_is_kept_in_half_precision() -> None:
    generator = torch.Generator().manual_seed(2)
    x, bank = torch.randn(16, 5, generator=generator), torch.randn(16, 5, generator=generator)
    places = grid(4, 4, images=1), grid(4, 4, images=1)
    found = [nearest_distances(x, bank, 2, half=half, places=places) for half in (False, True)]
    assert torch.equal(*found)
    assert not torch.equal(found[0], nearest_distances(x, bank, 2))


@given(seed=st.integers(0, 2**31), groups=st.integers(1, 12), count=st.integers(1, 9))
def test_the_smallest_values_are_those_of_a_whole_sort(seed: int, groups: int, count: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    values = torch.randint(50, (4, groups * GROUP), generator=generator).float()
    values[:, -3:] = torch.inf
    indices = smallest(values, count)
    assert torch.equal(values.gather(1, indices), values.sort(dim=1).values[:, :count])
    assert all(len({*row}) == count for row in indices.tolist())
