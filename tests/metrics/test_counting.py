"""Counts of scores below and above others, against plain comparisons."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from occ_lab.metrics.counting import count_distinct, count_packed, reached
from occ_lab.metrics.packing import pack

# Few distinct values, so that many are ties.
some_scores = st.lists(st.integers(0, 9).map(float), max_size=20)


@given(scores=some_scores, pieces=st.lists(some_scores, min_size=1, max_size=4))
def test_negatives_below_and_up_to_a_score(scores: list[float], pieces: list[list[float]]) -> None:
    ordered = np.sort(np.array(scores, np.float32))
    negatives = [each for piece in pieces for each in piece]
    wanted = [
        [sum(each < score for each in negatives) for score in ordered],
        [sum(each <= score for each in negatives) for score in ordered],
    ]
    packed = zip(*(pack(np.sort(np.array(piece, np.float32))) for piece in pieces), strict=True)
    parts = [list(part) for part in packed]
    for at_once in (1, 20, 2**24):
        assert [each.tolist() for each in count_packed(ordered, *parts, at_once=at_once)] == wanted
    distinct, counts = np.unique(negatives, return_counts=True)
    once, twice = count_distinct(ordered, distinct, counts, 2 * counts)
    assert [each.tolist() for each in once] == wanted
    assert [each.tolist() for each in twice] == [[2 * each for each in one] for one in wanted]


@given(pairs=st.lists(st.tuples(st.integers(0, 9), st.integers(0, 5)), max_size=20))
def test_the_total_at_or_above_a_score(pairs: list[tuple[int, int]]) -> None:
    ordered = sorted(pairs)
    scores = np.array([float(score) for score, _ in ordered])
    wanted = [sum(count for other, count in ordered if other >= score) for score, _ in ordered]
    counts = np.array([count for _, count in ordered], np.int64)
    assert reached(scores, counts).tolist() == wanted
