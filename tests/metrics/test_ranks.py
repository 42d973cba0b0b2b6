"""Ranks over tasks against published tables and plain implementations."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from occ_lab.metrics.ranks import Ranks, critical_difference

SHAPES = st.tuples(st.integers(3, 5), st.integers(2, 6))
VALUES = arrays.arrays(float, SHAPES, elements=st.integers(0, 3))


@pytest.mark.parametrize(
    ("methods", "q"), [(2, 1.960), (3, 2.343), (4, 2.569), (5, 2.728), (6, 2.850), (10, 3.164)]
)
def test_critical_differences_are_those_of_the_published_table(methods: int, q: float) -> None:
    """Table 5 of Demšar 2006."""
    found = critical_difference(methods, tasks=14)
    assert found == pytest.approx(q * math.sqrt(methods * (methods + 1) / (6 * 14)), abs=5e-4)


@given(VALUES)
def test_mean_ranks_equal_a_plain_count(values: np.ndarray) -> None:
    found = Ranks.of(values)
    for own, mean in zip(values, found.means, strict=True):
        ranks = 1 + (values > own).sum(axis=0) + ((values == own).sum(axis=0) - 1) / 2
        assert mean == pytest.approx(ranks.mean())
    assert 0 <= found.p_value <= 1
