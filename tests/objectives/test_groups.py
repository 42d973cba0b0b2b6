"""Groups of images against blobs that are known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from occ_lab.objectives import groups as module
from occ_lab.objectives.groups import groups
from occ_lab.utils.errors import InputError


def blobs(sizes: list[int], seed: int, apart: float = 20.0) -> tuple[np.ndarray, np.ndarray]:
    """Vectors ``[N, 12]`` in random order, and the blob of each; blobs are ``apart``."""
    random = np.random.default_rng(seed)
    of = random.permutation(np.repeat(np.arange(len(sizes)), sizes))
    return apart * np.eye(12)[of] + random.standard_normal((len(of), 12)), of


def as_sets(rows: list[np.ndarray]) -> set[frozenset[int]]:
    return {frozenset(group.tolist()) for group in rows}


@settings(deadline=None, max_examples=8)
@given(sizes=st.lists(st.integers(4, 12), min_size=1, max_size=11), seed=st.integers(0, 99))
def test_blobs_are_found_whatever_their_number(sizes: list[int], seed: int) -> None:
    x, of = blobs(sizes, seed)
    expected = as_sets([np.flatnonzero(of == blob) for blob in range(len(sizes))])
    assert as_sets(groups(x, "auto", most=32)) == expected
    assert as_sets(groups(x, len(sizes), most=1)) == expected


def test_one_image_far_away_is_no_group() -> None:
    x, _ = blobs([30], seed=0)
    x[7] += 100
    assert as_sets(groups(x, "auto", most=32)) == {frozenset(range(30))}


@pytest.mark.parametrize(("most", "expected"), [(1, 1), (3, 3), (4, 4), (32, 6)])
def test_groups_are_divided_again_up_to_a_number(most: int, expected: int) -> None:
    x, of = blobs([8] * 6, seed=1)
    x += 100 * np.eye(12)[of // 2]  # three pairs
    found = groups(x, "auto", most)
    assert len(found) == expected
    assert sorted(np.concatenate(found)) == list(range(len(of)))


def test_equal_images_are_one_group() -> None:
    assert as_sets(groups(np.ones((9, 3)), "auto", most=32)) == {frozenset(range(9))}


def test_many_images_are_sampled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SAMPLED", 40)
    x, of = blobs([50, 30], seed=2)
    found = groups(x, "auto", most=32)
    assert sum(map(len, found)) == 40
    assert [len(set(of[group])) for group in found] == [1, 1]


def test_more_groups_than_images_are_refused() -> None:
    with pytest.raises(InputError, match="components: 5 groups cannot be formed of 3 training"):
        groups(np.zeros((3, 2)), 5, most=32)
