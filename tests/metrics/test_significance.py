"""DeLong's test and Holm's correction against plain implementations, in float64."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from occ_lab.metrics.bootstrap import PairedTask, task_differences
from occ_lab.metrics.curves import auroc
from occ_lab.metrics.significance import delong_p_value, holm, placements


def random_task(seed: int, levels: int, runs: tuple[int, int] = (1, 1)) -> PairedTask:
    """Correlated scores with ties."""
    rng = np.random.default_rng(seed)
    labels = np.r_[np.zeros(rng.integers(2, 9)), np.ones(rng.integers(2, 9))].astype(int)
    common = rng.normal(size=len(labels)) + labels
    ours, theirs = (
        np.round((common + rng.normal(size=(count, len(labels)))) * levels) for count in runs
    )
    return PairedTask(labels, ours, theirs)


def wins(anomalous: float, normal: float) -> float:
    return 1.0 if anomalous > normal else 0.5 if anomalous == normal else 0.0


def plain_p_value(task: PairedTask) -> float:
    """The published covariance matrix of two AUROCs, pair by pair; one run in each group."""
    x, y = task.labels == 1, task.labels == 0
    rows = (task.ours[0], task.theirs[0])
    v10 = [[np.mean([wins(a, b) for b in row[y]]) for a in row[x]] for row in rows]
    v01 = [[np.mean([wins(a, b) for a in row[x]]) for b in row[y]] for row in rows]
    s = np.cov(v10) / x.sum() + np.cov(v01) / y.sum()
    variance = s[0, 0] + s[1, 1] - 2 * s[0, 1]
    difference = np.mean(v10[0]) - np.mean(v10[1])
    if variance < 1e-15:
        return 0.0 if abs(difference) > 1e-9 else 1.0
    return math.erfc(abs(difference) / math.sqrt(2 * variance))


@given(seed=st.integers(0, 10**6), levels=st.sampled_from([1, 2, 1000]))
@settings(deadline=None, max_examples=60)
def test_delong_equals_its_plain_reference(seed: int, levels: int) -> None:
    task = random_task(seed, levels)
    assert delong_p_value([task]) == pytest.approx(plain_p_value(task), abs=1e-9)


@given(seed=st.integers(0, 10**6), levels=st.sampled_from([1, 1000]))
@settings(deadline=None, max_examples=30)
def test_placements_are_those_of_single_pairs(seed: int, levels: int) -> None:
    task = random_task(seed, levels, (3, 1))
    normal, anomalous = placements(task.labels, task.ours)
    mean = np.mean([auroc(row, task.labels) for row in task.ours])
    assert normal.mean() == pytest.approx(mean)
    assert anomalous.mean() == pytest.approx(mean)
    by_run = [
        [np.mean([wins(a, b) for b in row[task.labels == 0]]) for a in row[task.labels == 1]]
        for row in task.ours
    ]
    expected = np.mean(by_run, axis=0)
    np.testing.assert_allclose(anomalous, expected)


def test_delong_of_seeds_and_tasks_agrees_with_the_bootstrap() -> None:
    rng, tasks = np.random.default_rng(0), []
    for shift in (1.0, 1.5):
        labels = np.arange(400) % 2
        common = rng.normal(size=400) + shift * labels
        ours, theirs = (common + rng.normal(size=(2, 400)) for _ in range(2))
        tasks.append(PairedTask(labels, ours, theirs))
    drawn = np.mean([task_differences(task, 2000, rng) for task in tasks], axis=0)
    values = [
        placements(t.labels, t.ours)[0].mean() - placements(t.labels, t.theirs)[0].mean()
        for t in tasks
    ]
    expected = 2 * stats.norm.sf(abs(np.mean(values)) / drawn.std())
    assert delong_p_value(tasks) == pytest.approx(expected, rel=0.1)


def test_delong_of_special_groups() -> None:
    labels, scores = np.array([0, 0, 1, 1]), np.array([[0.1, 0.2, 0.3, 0.4]])
    assert delong_p_value([PairedTask(labels, scores, 2 * scores)]) == 1
    assert delong_p_value([PairedTask(labels, scores, -scores)]) == 0
    single = PairedTask(np.array([0, 0, 1]), scores[:, :3], -scores[:, :3])
    assert math.isnan(delong_p_value([single]))


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_equals_its_plain_reference(values: list[float]) -> None:
    """The adjusted value is the least level at which Holm's procedure rejects."""
    order = sorted(range(len(values)), key=values.__getitem__)
    for index, found in enumerate(holm(values)):
        steps = order[: order.index(index) + 1]
        expected = max(min(1.0, (len(values) - k) * values[each]) for k, each in enumerate(steps))
        assert found == expected


def test_holm_leaves_out_what_was_not_tested() -> None:
    found = holm([math.nan, 0.02, 0.5])
    assert math.isnan(found[0])
    assert found[1:] == [0.04, 0.5]
