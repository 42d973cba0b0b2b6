"""Whether new images look like those that a detector was calibrated on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.stats import ks_2samp

EXACT = 500_000  # pairs of scores up to which a test is exact; beyond, the limit is used


@dataclass(frozen=True)
class Span:
    """New images, in order, whose scores are higher than those of the calibration.

    Attributes:
        first: the index of the first one.
        last: that of the last one.
        p_value: the smallest of the tests that say so, corrected for the number of all tests.
    """

    first: int
    last: int
    p_value: float


@dataclass(frozen=True)
class Drift:
    """What the tests for drift say.

    Attributes:
        tests: how many there were.
        p_value: of the test of all images together, corrected for the number of tests; in 0..1.
        spans: where the alarm was raised, by any test; empty without drift.
    """

    tests: int
    p_value: float
    spans: list[Span]


def drift(
    scores: np.ndarray, calibration: np.ndarray, window: int = 50, alarm: float = 0.01
) -> Drift:
    """Test whether new scores are higher than those of a calibration.

    If new images are like those of the calibration, their p-values are uniform. Since all of them
    refer to the same few calibration scores, they are not independent, and a test of uniformity
    that ignores it raises the alarm too often. The two-sample test of Kolmogorov and Smirnov of
    the scores is the same test with this accounted for. It is one-sided, as thresholds that come
    from folds may well be on the safe side. All images are tested together, and those of every
    window; windows overlap by half. p-values are multiplied by the number of tests (Bonferroni),
    so that a false alarm has a probability of at most ``alarm``.

    Args:
        scores: of new images in their order, finite, ``[N]``; N may be 0.
        calibration: of the calibration, ``[n]``, n at least 1.
        window: how many images in a row are tested together, at least 2.
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
    """First and last index of each window; none where one would hold all images.

    Example:
        >>> list(windows_of(7, 4))
        [(0, 3), (2, 5), (3, 6)]
    """
    if images <= window:
        return
    starts = range(0, images - window, max(1, window // 2))
    yield from ((start, start + window - 1) for start in (*starts, images - window))


def corrected(scores: np.ndarray, calibration: np.ndarray, tests: int) -> float:
    """The p-value of scores being no higher than those of a calibration, times ``tests``."""
    if not len(scores):
        return 1.0
    method = "exact" if len(scores) * len(calibration) <= EXACT else "asymp"
    # "less": the distribution function of the new scores is lower, so they are higher.
    found = ks_2samp(scores, calibration, alternative="less", method=method)
    return min(1.0, tests * float(found.pvalue))


def joined(spans: list[Span]) -> list[Span]:
    """Spans that overlap or touch as one.

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
