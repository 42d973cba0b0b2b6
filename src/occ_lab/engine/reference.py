"""The scores that the p-values of a stream refer to."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from statistics import median

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
    a decision, as many as it needs. As the detector learns further, scores go on falling, and those
    of the reference are scaled down with the median of the latest ``window`` accepted ones. It is
    never scaled up: where scores rise, images have changed, or are defective.

    Args:
        window: how many scores of a stream are kept in the end, at least 1.
        rate: the false-positive rate of decisions, above 0 and below 1.
        calibration: the scores to refer to; None collects those of the stream.
        scaled: whether the detector learns.

    Attributes:
        scores: all that were collected, in order.
        peaks: the largest value of each anomaly map, likewise.
        fixed: whether no more are collected.
        latest: scores of the latest images that were accepted.

    Example:
        >>> reference = Reference(window=4, rate=0.25)
        >>> for score in range(9):
        ...     reference.add(float(score), float(score), accepted=True)
        >>> reference.fixed, reference.calibration.scores.tolist()
        (True, [4.0, 5.0, 6.0, 7.0])
        >>> reference.p_value(6.5), reference.decided
        (0.4, True)
    """

    def __init__(
        self,
        window: int,
        rate: float,
        calibration: Calibration | None = None,
        scaled: bool = False,
    ) -> None:
        self.window = window
        self.rate = rate
        self.scaled = scaled
        self.scores = [] if calibration is None else calibration.scores.tolist()
        self.peaks = [] if calibration is None else calibration.peaks.tolist()
        self.fixed = calibration is not None
        self.latest: deque[float] = deque(maxlen=window)
        self._calibration: Calibration | None = None

    def add(self, score: float, peak: float, accepted: bool) -> None:
        """Take account of an image of the stream.

        Args:
            score: of the image.
            peak: the largest value of its map.
            accepted: whether it was not rejected.
        """
        if accepted:
            self.latest.append(score)
        if not self.fixed:
            self.scores.append(score)
            self.peaks.append(peak)
            if len(self.scores) >= 2 * self.window:
                self.scores, self.peaks = self.scores[-self.window :], self.peaks[-self.window :]
                self.fixed = True
        self._calibration = None

    def restore(
        self,
        scores: Sequence[float],
        peaks: Sequence[float],
        fixed: bool,
        latest: Sequence[float] = (),
    ) -> None:
        """Take over the scores of another reference, or of several that are merged."""
        self.scores, self.peaks, self.fixed = list(scores), list(peaks), fixed
        self.latest = deque(latest, maxlen=self.window)
        self._calibration = None

    @property
    def calibration(self) -> Calibration:
        """The scores and peaks that count by now."""
        if self._calibration is None:
            count = len(self.scores)
            if not self.fixed:
                count = max(count - count // 2, min(count, fewest(self.rate)))
            scores, peaks = (
                torch.tensor(values[len(values) - count :], dtype=torch.float64)
                for values in (self.scores, self.peaks)
            )
            factor = self._factor(scores.tolist())
            self._calibration = Calibration.of(factor * scores, factor * peaks)
        return self._calibration

    def _factor(self, scores: list[float]) -> float:
        """How much smaller accepted scores have become, at most 1."""
        if not (self.scaled and self.fixed and len(self.latest) == self.window):
            return 1.0
        # Accepted scores are those up to the threshold, which as many of these are above.
        ordered = sorted(scores)
        before = median(ordered[: len(ordered) - int(self.rate * len(ordered))])
        return min(1.0, median(self.latest) / before) if before > 0 else 1.0

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
