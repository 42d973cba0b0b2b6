"""The scores that the p-values of a stream refer to."""

from __future__ import annotations

import torch

from occ_lab.metrics.calibration import Calibration, fewest


class Reference:
    """Scores of normal images that a detector had not learned from when it scored them.

    They are those of a calibration, or of the first images of a stream, and stay as they are from
    then on. If every later image that is accepted took the place of an earlier one, the scores
    would be cut off at the threshold again and again: it would fall, and ever more normal images
    would be rejected. For the same reason the first images count whether or not they are accepted.

    A detector that has learned from few images scores new ones higher. Of the first images, the
    later half counts therefore, until there are ``window`` scores in it; where that is too few for
    a decision, as many as it needs.

    Args:
        window: how many scores of a stream are kept in the end, at least 1.
        rate: the false-positive rate of decisions, above 0 and below 1.
        calibration: the scores to refer to; None collects those of the stream.

    Attributes:
        scores: all that were collected, in order.
        peaks: the largest value of each anomaly map, likewise.
        fixed: whether no more are collected.

    Example:
        >>> reference = Reference(window=4, rate=0.25)
        >>> for score in range(9):
        ...     reference.add(float(score), float(score))
        >>> reference.fixed, reference.calibration.scores.tolist()
        (True, [4.0, 5.0, 6.0, 7.0])
        >>> reference.p_value(6.5), reference.decided
        (0.4, True)
    """

    def __init__(self, window: int, rate: float, calibration: Calibration | None = None) -> None:
        self.window = window
        self.rate = rate
        self.scores = [] if calibration is None else calibration.scores.tolist()
        self.peaks = [] if calibration is None else calibration.peaks.tolist()
        self.fixed = calibration is not None
        self._calibration: Calibration | None = None

    def add(self, score: float, peak: float) -> None:
        """Take account of an image of the stream, unless there are enough."""
        if self.fixed:
            return
        self.scores.append(score)
        self.peaks.append(peak)
        self._calibration = None
        if len(self.scores) >= 2 * self.window:
            self.scores, self.peaks = self.scores[-self.window :], self.peaks[-self.window :]
            self.fixed = True

    def restore(self, scores: list[float], peaks: list[float], fixed: bool) -> None:
        """Take over the scores of another reference, or of several that are merged."""
        self.scores, self.peaks, self.fixed = scores, peaks, fixed
        self._calibration = None

    @property
    def calibration(self) -> Calibration:
        """The scores and peaks that count by now."""
        if self._calibration is None:
            count = len(self.scores)
            if not self.fixed:
                count = max(count - count // 2, min(count, fewest(self.rate)))
            counted = (self.scores[-count:], self.peaks[-count:]) if count else ([], [])
            self._calibration = Calibration.of(*map(torch.tensor, counted))
        return self._calibration

    @property
    def decided(self) -> bool:
        """Whether there are enough scores for a decision at the rate."""
        return len(self.calibration.scores) >= fewest(self.rate)

    def p_value(self, score: float) -> float:
        """The p-value of a score, see `Calibration`."""
        return float(self.calibration.p_values(torch.tensor([score], dtype=torch.float64)))

    @property
    def pixel_threshold(self) -> float | None:
        """What a pixel of a map must exceed to be marked; None before there are decisions."""
        return self.calibration.pixel_threshold(self.rate) if self.decided else None
