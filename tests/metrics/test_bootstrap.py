"""The paired bootstrap compared with loops, scikit-learn and known results."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from occ_lab.metrics import bootstrap
from occ_lab.metrics.bootstrap import (
    Difference,
    Interval,
    PairedTask,
    ScoredTask,
    drawn_counts,
    mean_aurocs,
    paired_difference,
    resampled_aurocs,
)

# Few distinct scores, so that there are ties.
SCORES = st.lists(st.integers(-3, 3), min_size=1, max_size=12)


def by_pairs(normal: np.ndarray, anomalous: np.ndarray) -> float:
    wins = [(a > n) + 0.5 * (a == n) for a in anomalous for n in normal]
    return sum(wins) / len(wins)


@given(SCORES, SCORES, st.integers(0, 1000))
def test_resamples_are_the_aurocs_of_the_drawn_images(
    normal: list[int], anomalous: list[int], seed: int
) -> None:
    x, y = np.array(normal, float), np.array(anomalous, float)
    rng = np.random.default_rng(seed)
    counts = drawn_counts(len(x), 5, rng), drawn_counts(len(y), 5, rng)
    found = resampled_aurocs(x, y, *counts)
    expected = [by_pairs(np.repeat(x, n), np.repeat(y, a)) for n, a in zip(*counts, strict=True)]
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_draws_are_with_replacement_and_as_many_as_images() -> None:
    counts = drawn_counts(50, 4000, np.random.default_rng(0))
    assert (counts.sum(1) == 50).all()
    np.testing.assert_allclose(counts.mean(0), 1, atol=0.08)
    assert (counts == 0).mean() == pytest.approx((1 - 1 / 50) ** 50, abs=0.005)


def task(rng: np.random.Generator, ours: float, theirs: float, seeds: int = 1) -> PairedTask:
    """Scores with the noise of the image in common, anomalous ones higher by so much."""
    labels = np.arange(120) % 2
    common = rng.normal(size=120)
    own = rng.normal(size=(2, seeds, 120))
    both = [
        math.sqrt(0.7) * common + math.sqrt(0.3) * noise + shift * labels
        for noise, shift in zip(own, (ours, theirs), strict=True)
    ]
    return PairedTask(labels, *both)


def test_the_value_is_the_mean_over_seeds_and_tasks() -> None:
    rng = np.random.default_rng(0)
    tasks = [task(rng, 1.5, 1.0, seeds=2), task(rng, 0.5, 1.0, seeds=2)]
    expected = np.mean(
        [
            np.mean([roc_auc_score(each.labels, row) for row in each.ours])
            - np.mean([roc_auc_score(each.labels, row) for row in each.theirs])
            for each in tasks
        ]
    )
    found = paired_difference(tasks, resamples=50)
    assert found.value == pytest.approx(expected, abs=1e-12)
    assert found.low < found.value < found.high


def test_equal_scores_have_no_difference_in_any_resample() -> None:
    one = task(np.random.default_rng(0), 1, 1)
    same = PairedTask(one.labels, one.ours, one.ours)
    assert paired_difference([same], resamples=50) == Difference(0, 0, 0)
    assert Difference(0, 0, 0).words == "not significant"


def test_the_order_of_the_groups_is_a_sign() -> None:
    one = task(np.random.default_rng(0), 1.5, 1)
    there = paired_difference([one], resamples=200, seed=3)
    back = paired_difference([PairedTask(one.labels, one.theirs, one.ours)], 200, seed=3)
    np.testing.assert_allclose([back.low, back.high], [-there.high, -there.low], atol=1e-12)


def test_the_seed_decides_and_blocks_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    tasks = [task(np.random.default_rng(0), 1.5, 1)]
    first = paired_difference(tasks, resamples=400, seed=1)
    assert paired_difference(tasks, resamples=400, seed=1) == first
    assert paired_difference(tasks, resamples=400, seed=2) != first
    monkeypatch.setattr(bootstrap, "AT_ONCE", 1000)  # eight resamples at a time
    small = paired_difference(tasks, resamples=400, seed=1)
    assert small.low == pytest.approx(first.low, abs=0.02)
    assert small.high == pytest.approx(first.high, abs=0.02)


def test_words() -> None:
    assert Difference(0.1, 0.05, 0.2).words == "difference"
    assert Difference(-0.1, -0.2, -0.05).words == "difference"
    assert Difference(0.1, 0.0, 0.2).words == "not significant"


@pytest.mark.parametrize(("ours", "theirs"), [(1.2, 1.2), (1.6, 1.0)])
def test_the_interval_covers_the_true_difference(ours: float, theirs: float) -> None:
    truth = norm.cdf(ours / math.sqrt(2)) - norm.cdf(theirs / math.sqrt(2))
    rng = np.random.default_rng(7)
    trials = 400
    covered = 0
    for seed in range(trials):
        found = paired_difference([task(rng, ours, theirs)], resamples=300, seed=seed)
        covered += found.low <= truth <= found.high
    # 95 % but for chance (a standard deviation of 1.1 points) and the small sample.
    assert 0.915 <= covered / trials <= 0.98


def test_methods_are_resampled_together() -> None:
    """The difference of two methods is that of the paired bootstrap; each has its own interval."""
    rng = np.random.default_rng(0)
    pairs = [task(rng, 1.5, 1.0), task(rng, 0.5, 1.0)]
    scored = [ScoredTask(pair.labels, np.stack([pair.ours[0], pair.theirs[0]])) for pair in pairs]
    values, drawn = mean_aurocs(scored, resamples=200, seed=3)
    expected = [
        np.mean([roc_auc_score(each.labels, each.scores[row]) for each in scored]) for row in (0, 1)
    ]
    np.testing.assert_allclose(values, expected, atol=1e-12)
    assert drawn.shape == (2, 200)
    own = Interval.of(values[0], drawn[0])
    assert own.low < own.value < own.high
    found = Difference.of(values[0] - values[1], drawn[0] - drawn[1])
    paired = paired_difference(pairs, resamples=200, seed=3)
    np.testing.assert_allclose(
        [found.value, found.low, found.high], [paired.value, paired.low, paired.high], atol=1e-12
    )
