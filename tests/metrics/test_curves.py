"""Curves and operating points."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import auc

from occ_lab.metrics.curves import auroc, operating_point, precision_recall, roc, thinned

SCORED = st.lists(st.tuples(st.integers(-4, 4), st.integers(0, 1)), min_size=2, max_size=40).filter(
    lambda rows: len({label for _, label in rows}) == 2
)


def arrays(rows: list[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
    scores, labels = zip(*rows, strict=True)
    return np.array(scores, float), np.array(labels)


@given(SCORED, st.floats(0, 1) | st.sampled_from([0.0, 0.01, 0.05, 0.29, 0.5, 1.0]))
def test_the_threshold_is_the_smallest_that_keeps_the_rate(
    rows: list[tuple[int, int]], rate: float
) -> None:
    scores, labels = arrays(rows)
    normal, anomalous = scores[labels == 0], scores[labels == 1]
    point = operating_point(scores, labels, rate)
    assert point.overkill == (normal > point.threshold).mean() <= rate
    assert point.escape == (anomalous <= point.threshold).mean()
    if math.isfinite(point.threshold):
        assert (normal > np.nextafter(point.threshold, -np.inf)).mean() > rate
    else:
        assert rate == 1


def test_thresholds_by_hand() -> None:
    scores = np.array([*range(1, 21), 19, 19.5, 20, 25], float)  # 20 normal, 4 anomalous
    labels = np.array([0] * 20 + [1] * 4)
    assert operating_point(scores, labels, 0.01) == (20, 0.0, 0.75)  # not one of 20 may be above
    assert operating_point(scores, labels, 0.05) == (19, 0.05, 0.25)
    assert operating_point(scores, labels, 0.0999) == (19, 0.05, 0.25)
    assert operating_point(scores, labels, 1.0) == (-math.inf, 1.0, 0.0)


@pytest.mark.parametrize("count", [7, 100])
def test_a_rate_that_is_a_whole_number_of_images_is_reached(count: int) -> None:
    scores, labels = np.arange(count + 1.0), np.array([0] * count + [1])
    for above in range(count):  # 0.29 × 100 is 28.999… in floating point
        assert operating_point(scores, labels, above / count).overkill == above / count


@given(SCORED)
def test_the_curves_have_a_point_for_every_threshold(rows: list[tuple[int, int]]) -> None:
    scores, labels = arrays(rows)
    normal, anomalous = scores[labels == 0], scores[labels == 1]
    found = zip(*precision_recall(scores, labels), strict=True)
    assert next(found) == (0, 1)  # as scikit-learn has it, where nothing is called anomalous
    assert list(found) == [
        (pytest.approx((anomalous >= t).mean()), pytest.approx(labels[scores >= t].mean()))
        for t in np.unique(scores)[::-1]
    ]
    x, y = roc(scores, labels)
    assert (x[0], y[0], x[-1], y[-1]) == (0, 0, 1, 1)
    rates = {((normal >= t).mean(), (anomalous >= t).mean()) for t in scores} | {(0, 0)}
    assert all(
        min(abs(a - c) + abs(b - d) for c, d in rates) < 1e-12 for a, b in zip(x, y, strict=True)
    )
    assert auc(x, y) == pytest.approx(auroc(scores, labels), abs=1e-12)


@given(SCORED)
def test_auroc_is_the_fraction_of_ordered_pairs(rows: list[tuple[int, int]]) -> None:
    scores, labels = arrays(rows)
    pairs = [(a > n) + 0.5 * (a == n) for a in scores[labels == 1] for n in scores[labels == 0]]
    assert auroc(scores, labels) == pytest.approx(np.mean(pairs), abs=1e-12)


def test_infinite_scores_are_ranked_and_one_class_has_no_auroc() -> None:
    scores, labels = np.array([-np.inf, 1.0, np.inf]), np.array([0, 0, 1])
    assert auroc(scores, labels) == 1
    assert roc(scores, labels)[1].tolist() == [0, 1, 1]
    assert precision_recall(scores, labels)[0].tolist() == [0, 1, 1, 1]
    assert math.isnan(auroc(np.array([1.0, 2.0]), np.array([1, 1])))


def test_thinned_keeps_the_ends() -> None:
    x, y = thinned(np.arange(1000), np.arange(1000) ** 2, points=10)
    assert len(x) == len(y) == 10
    assert (x[0], x[-1], y[-1]) == (0, 999, 999**2)
    assert len(thinned(np.arange(5), np.arange(5), points=10)[0]) == 5
