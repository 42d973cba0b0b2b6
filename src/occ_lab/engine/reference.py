"""The scores that the p-values of a stream refer to."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from statistics import median

import torch

from occ_lab.metrics.calibration import Calibration, fewest


class Reference:
    """Scores of normal images that a detector had not learned from when it scored them.

    They come from a calibration, or from the first images of a stream, and then do not change. If
    every image accepted later replaced an earlier one, the scores would be cut off at the
    threshold again and again: the threshold would fall, and more and more normal images would be
    rejected. For the same reason, the first images count whether or not they are accepted.

    A detector that has learned from few images gives new images higher scores. Therefore only the
    later half of the first images counts, until it has ``window`` scores; if that is too few for a
    decision, as many as a decision needs. As the detector continues to learn, scores keep falling,
    so the scores of the reference are scaled down with the median of the latest ``window`` accepted
    scores. They are never scaled up: if scores rise, the images have changed or are anomalous.

    Args:
        window: the number of scores of a stream that are finally kept, at least 1.
        rate: the false-positive rate of decisions, above 0 and below 1.
        calibration: the scores to refer to; None collects scores of the stream.
        scaled: whether the detector learns.

    Attributes:
        scores: all collected scores, in order.
        peaks: the largest value of each anomaly map, likewise.
        fixed: whether collecting has ended.
        latest: the scores of the latest accepted images.

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
        """Add an image of the stream.

        Args:
            score: the score of the image.
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
        """Take over the scores of another reference, or of several merged ones."""
        self.scores, self.peaks, self.fixed = list(scores), list(peaks), fixed
        self.latest = deque(latest, maxlen=self.window)
        self._calibration = None

    @property
    def calibration(self) -> Calibration:
        """The scores and peaks that currently count."""
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
        """The factor by which accepted scores have fallen, at most 1."""
        if not (self.scaled and self.fixed and len(self.latest) == self.window):
            return 1.0
        # Accepted scores lie below the threshold, so the same fraction of these is left out.
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
        """The threshold above which a pixel of a map is marked; None before there are decisions."""
        return self.calibration.pixel_threshold(self.rate) if self.decided else None
