"""The detection of drift, and the rate of false alarms."""

from __future__ import annotations

import numpy as np
import pytest

from occ_lab.metrics.drift import drift, windows_of


@pytest.mark.parametrize(("calibrated", "new", "window"), [(20, 200, 50), (100, 60, 20)])
def test_false_alarms_are_as_rare_as_stated(calibrated: int, new: int, window: int) -> None:
    draws = np.random.default_rng(0).gamma(2.0, size=(400, calibrated + new))
    alarms = [bool(drift(row[calibrated:], row[:calibrated], window, 0.05).spans) for row in draws]
    assert np.mean(alarms) <= 0.05 + 3 * (0.05 * 0.95 / len(draws)) ** 0.5


def test_a_shift_is_noticed_and_found() -> None:
    random = np.random.default_rng(1)
    calibration, new = random.normal(size=100), random.normal(size=300)
    new[100:200] += 2
    first, *more = drift(new, calibration, window=50).spans
    assert (first.first, first.last) == (0, 299)
    (found,) = more
    assert 60 <= found.first <= 100
    assert 200 <= found.last <= 240
    assert found.p_value < 1e-3


def test_lower_scores_a_few_defects_and_no_images_raise_no_alarm() -> None:
    random = np.random.default_rng(2)
    calibration, new = random.normal(size=100), random.normal(size=300)
    assert not drift(new - 2, calibration).spans
    new[::25] += 50
    assert not drift(new, calibration).spans
    assert not drift(new[:0], calibration).spans
    assert not drift(new + 2, calibration, alarm=0).spans


def test_windows_cover_all_images() -> None:
    for images in range(12):
        windows = list(windows_of(images, 4))
        covered = {index for first, last in windows for index in range(first, last + 1)}
        assert covered == (set(range(images)) if images > 4 else set())
        assert all(last - first == 3 for first, last in windows)
        assert len(set(windows)) == len(windows)


@pytest.mark.parametrize("sizes", [(3000, 1000), (1, 1), (5000, 30)])
def test_any_numbers_of_scores_are_tested(sizes: tuple[int, int]) -> None:
    new, calibration = (np.random.default_rng(size).normal(size=size) for size in sizes)
    assert 0 <= drift(new, calibration, window=2000).p_value <= 1
