"""The colours of anomaly maps, the same for all images of a page."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from occ_lab.metrics.calibration import Calibration

REACH = 3.0  # how far beyond the threshold the colours still change


@dataclass(frozen=True)
class Scale:
    """Which values of a map have which strength of colour.

    It is anchored at good parts: up to ``calm`` a map has no colour, so that a good part looks
    calm; at ``threshold`` the colour has a third of its strength, and it grows to twice as far
    again.

    Attributes:
        calm: the median of the maps' largest values over good parts.
        threshold: a pixel above it is marked.
    """

    calm: float
    threshold: float

    @classmethod
    def of(cls, peaks: np.ndarray, threshold: float | None = None) -> Scale:
        """The scale for the largest map values of good parts, float ``[n]``.

        Args:
            peaks: of calibration images, or of images of which most are good.
            threshold: of pixels; by default the 95 % quantile of the peaks.
        """
        calm, high = float(np.median(peaks)), float(np.quantile(peaks, 0.95))
        chosen = high if threshold is None or not np.isfinite(threshold) else threshold
        least = calm + 1e-6 * max(abs(calm), 1e-6)
        return cls(calm, max(chosen, least))

    @classmethod
    def of_calibration(cls, calibration: Calibration, rate: float) -> Scale:
        """The scale of a calibrated detector at a false-positive rate."""
        return cls.of(calibration.peaks.numpy(), calibration.pixel_threshold(rate))

    def strength(self, values: np.ndarray) -> np.ndarray:
        """The strength of colour of map values, in 0..1.

        Example:
            >>> Scale(calm=1.0, threshold=2.0).strength(np.array([0.5, 1.0, 2.0, 4.0, 9.0]))
            array([0.        , 0.        , 0.33333333, 1.        , 1.        ])
        """
        return np.clip((values - self.calm) / (REACH * (self.threshold - self.calm)), 0, 1)
