"""Split-conformal p-values and thresholds."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from occ_lab.metrics.calibration import Calibration, fewest

values = st.lists(st.integers(-5, 5), min_size=1, max_size=40)


def calibration(scores: list[float]) -> Calibration:
    rising = torch.tensor(scores, dtype=torch.float64)
    return Calibration.of(rising, rising + 100)


@given(values, values)
def test_p_values_count_what_is_no_smaller(calibrated: list[float], new: list[float]) -> None:
    found = calibration(calibrated).p_values(torch.tensor(new, dtype=torch.float64))
    naive = [(1 + sum(c >= s for c in calibrated)) / (1 + len(calibrated)) for s in new]
    assert found.tolist() == pytest.approx(naive)


@given(values, values, st.integers(1, 50))
def test_the_threshold_decides_as_the_p_value(
    calibrated: list[float], new: list[float], percent: int
) -> None:
    made = calibration(calibrated)
    scores = torch.tensor(new, dtype=torch.float64)
    by_threshold = scores > made.threshold(percent / 100)
    # p ≤ α in whole numbers, where no rounding can decide it
    count = torch.round(made.p_values(scores) * (1 + len(calibrated)))
    assert by_threshold.tolist() == (100 * count <= percent * (1 + len(calibrated))).tolist()


@given(values)
def test_a_monotone_change_of_all_scores_changes_no_p_value(calibrated: list[float]) -> None:
    new = torch.linspace(-6, 6, 25, dtype=torch.float64)
    before = calibration(calibrated).p_values(new)
    after = calibration([math.exp(value) for value in calibrated]).p_values(new.exp())
    assert after.tolist() == before.tolist()


@pytest.mark.parametrize(("images", "overkill"), [(99, 0.01), (99, 0.05), (60, 0.05), (500, 0.01)])
def test_the_rate_of_false_alarms_is_kept_on_exchangeable_scores(
    images: int, overkill: float
) -> None:
    """Over many draws of calibration and test scores the rate is ⌊α (n + 1)⌋ / (n + 1)."""
    draws = np.random.default_rng(0).gamma(2.0, size=(3000, images + 20))
    alarms = []
    for row in torch.from_numpy(draws):
        made = Calibration.of(row[:images], row[:images])
        alarms.append(float((row[images:] > made.threshold(overkill)).double().mean()))
    expected = math.floor(overkill * (images + 1) + 1e-9) / (images + 1)
    error = 4 * float(np.std(alarms)) / len(alarms) ** 0.5
    assert np.mean(alarms) == pytest.approx(expected, abs=error)
    assert expected <= overkill


def test_p_values_of_exchangeable_scores_are_no_smaller_than_uniform() -> None:
    draws = torch.from_numpy(np.random.default_rng(1).normal(size=(4000, 20)))
    p = torch.cat([Calibration.of(row[:-1], row[:-1]).p_values(row[-1:]) for row in draws])
    for rate in (0.05, 0.1, 0.25, 0.5):
        slack = 4 * (rate * (1 - rate) / len(p)) ** 0.5
        assert float((p <= rate).double().mean()) <= rate + slack


def test_a_p_value_is_at_most_a_rate_that_it_equals() -> None:
    made = calibration([float(score) for score in range(19)])
    (p,) = made.p_values(torch.tensor([19.0])).tolist()
    assert p == 1 / 20  # in float32 it would be above 0.05
    assert made.threshold(0.05) < 19


def test_pixels_are_marked_by_the_peaks() -> None:
    made = calibration([1.0, 2.0, 3.0])
    assert made.threshold(0.5) == 2.0
    assert made.pixel_threshold(0.5) == 102.0


def test_too_few_images_never_alarm() -> None:
    assert calibration([1.0] * 98).threshold(0.01) == math.inf
    assert calibration([1.0] * 99).threshold(0.01) == 1.0


@given(st.integers(1, 999))
def test_the_fewest_images_are_just_enough(permille: int) -> None:
    needed = fewest(permille / 1000)
    scores = torch.zeros(needed)
    assert Calibration.of(scores, scores).threshold(permille / 1000) == 0 if needed else True
    if needed > 1:
        fewer = scores[1:]
        assert Calibration.of(fewer, fewer).threshold(permille / 1000) == math.inf
