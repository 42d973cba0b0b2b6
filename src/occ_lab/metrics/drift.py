"""Tests whether new images still resemble the calibration images of a detector."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.stats import ks_2samp

EXACT = 500_000  # pairs of scores; larger tests use the asymptotic distribution


@dataclass(frozen=True)
class Span:
    """A series of new images whose scores are higher than those of the calibration.

    Attributes:
        first: the index of the first image.
        last: the index of the last image.
        p_value: the smallest p-value of the tests that raised the alarm, corrected for the number
            of all tests.
    """

    first: int
    last: int
    p_value: float


@dataclass(frozen=True)
class Drift:
    """The result of the tests for drift.

    Attributes:
        tests: the number of tests.
        p_value: of the test of all images together, corrected for the number of tests; in 0..1.
        spans: where any test raised the alarm; empty without drift.
    """

    tests: int
    p_value: float
    spans: list[Span]


def drift(
    scores: np.ndarray, calibration: np.ndarray, window: int = 50, alarm: float = 0.01
) -> Drift:
    """Test whether new scores are higher than calibration scores.

    If new images resemble the calibration images, their p-values are uniform. They are not
    independent, however, because all of them refer to the same few calibration scores. A test of
    uniformity that ignores this raises too many alarms. The two-sample Kolmogorov-Smirnov test of
    the scores is the same test with this dependence accounted for. It is one-sided, because
    thresholds from folds may be too high. All images are tested together, and also the images of
    every window; windows overlap by half. p-values are multiplied by the number of tests
    (Bonferroni), so that the probability of a false alarm is at most ``alarm``.

    Args:
        scores: the scores of new images in order, finite, ``[N]``; N may be 0.
        calibration: the scores of the calibration images, ``[n]``, n at least 1.
        window: the number of consecutive images that are tested together, at least 2.
        alarm: the false-alarm rate, above 0 and below 1.

    Example:
        >>> random = np.random.default_rng(0)
        >>> calibration, same = random.normal(size=(2, 200))
        >>> drift(same, calibration).spans
        []
        >>> later = np.concatenate([same, same + 2])  # the second half has drifted
        >>> [(each.first, each.last) for each in drift(later, calibration).spans]
        [(0, 399), (175, 399)]
    """
    windows = list(windows_of(len(scores), window))
    tests = 1 + len(windows)
    found = [corrected(scores[first : last + 1], calibration, tests) for first, last in windows]
    whole = corrected(scores, calibration, tests)
    spans = [Span(0, len(scores) - 1, whole)] if whole <= alarm else []
    raised = [
        Span(first, last, p_value)
        for (first, last), p_value in zip(windows, found, strict=True)
        if p_value <= alarm
    ]
    return Drift(tests, whole, [*spans, *joined(raised)])


def windows_of(images: int, window: int) -> Iterator[tuple[int, int]]:
    """First and last index of each window; no windows if one would contain all images.

    Example:
        >>> list(windows_of(7, 4))
        [(0, 3), (2, 5), (3, 6)]
    """
    if images <= window:
        return
    starts = range(0, images - window, max(1, window // 2))
    yield from ((start, start + window - 1) for start in (*starts, images - window))


def corrected(scores: np.ndarray, calibration: np.ndarray, tests: int) -> float:
    """The p-value of "the scores are no higher than the calibration scores", times ``tests``."""
    if not len(scores):
        return 1.0
    method = "exact" if len(scores) * len(calibration) <= EXACT else "asymp"
    # "less": the distribution function of the new scores is lower, so the scores are higher.
    found = ks_2samp(scores, calibration, alternative="less", method=method)
    return min(1.0, tests * float(found.pvalue))


def joined(spans: list[Span]) -> list[Span]:
    """Merge spans that overlap or touch.

    Example:
        >>> joined([Span(0, 9, 0.01), Span(5, 14, 0.002), Span(30, 39, 0.01)])
        [Span(first=0, last=14, p_value=0.002), Span(first=30, last=39, p_value=0.01)]
    """
    merged: list[Span] = []
    for each in spans:
        if merged and each.first <= merged[-1].last + 1:
            before = merged.pop()
            each = Span(before.first, each.last, min(before.p_value, each.p_value))
        merged.append(each)
    return merged
