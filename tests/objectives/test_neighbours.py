"""Distances of features to their nearest neighbours in a bank."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from occ_lab.objectives.cfa import CFA
from occ_lab.objectives.knn import KNN
from occ_lab.objectives.neighbours import GROUP, nearest_distances, smallest
from occ_lab.projectors import Identity


@pytest.mark.parametrize("loss", ["knn", "cfa"])
def test_the_gradient_is_finite_at_a_vector_of_the_bank(loss: str) -> None:
    z = torch.randn(2, 5, 3, 3, generator=torch.Generator().manual_seed(0))
    if loss == "knn":
        objective = KNN()
        objective.observe([z])
        objective.finish(Identity([5]))
    else:
        objective = CFA()
        objective.setup([z[:1]])
    x = z.clone().requires_grad_()
    scores = objective(x)
    assert scores[0].max() < 1e-6
    # as of an image score, to which the map's maximum alone adds
    (gradient,) = torch.autograd.grad(scores.max(), x)
    assert gradient.isfinite().all()


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
    if half:  # bfloat16 holds these exactly
        x, bank = x % 8, bank % 8
    found = nearest_distances(x, bank, count, half=half and levels == 3)
    for row, distances in zip(x.double(), found, strict=True):
        squared = sorted(float((row - centre).square().sum()) for centre in bank.double())
        assert distances.tolist() == pytest.approx(squared[:count], rel=1e-5, abs=1e-3)


@given(seed=st.integers(0, 2**31), groups=st.integers(1, 12), count=st.integers(1, 9))
def test_the_smallest_values_are_those_of_a_whole_sort(seed: int, groups: int, count: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    values = torch.randint(50, (4, groups * GROUP), generator=generator).float()
    values[:, -3:] = torch.inf
    indices = smallest(values, count)
    assert torch.equal(values.gather(1, indices), values.sort(dim=1).values[:, :count])
    assert all(len({*row}) == count for row in indices.tolist())
