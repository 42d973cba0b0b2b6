"""A threshold from normal images alone: split-conformal p-values."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Calibration:
    """The scores of normal images that a detector was not trained on.

    If a new normal image is exchangeable with them, its p-value is at most α with a probability of
    at most α, for any detector and distribution (Vovk et al. 2005; Bates et al. 2023, arXiv
    2104.08279, equation 3). Use `of` to make one from scores in any order.

    Args:
        scores: image scores, rising, float64 ``[n]``.
        peaks: the largest value of each anomaly map (the image score if there are no maps), rising,
            float64 ``[n]``.

    Example:
        >>> scores = torch.arange(1.0, 100.0)
        >>> calibration = Calibration.of(scores, peaks=scores)
        >>> calibration.threshold(0.05)
        95.0
        >>> calibration.p_values(torch.tensor([95.0, 95.5, 200.0]))
        tensor([0.0600, 0.0500, 0.0100], dtype=torch.float64)
    """

    scores: Tensor
    peaks: Tensor

    @classmethod
    def of(cls, scores: Tensor, peaks: Tensor) -> Calibration:
        """Make one from scores and peaks ``[n]`` in any order."""
        return cls(*(values.double().cpu().sort().values for values in (scores, peaks)))

    def p_values(self, scores: Tensor) -> Tensor:
        """``(1 + #{calibration scores ≥ s}) / (n + 1)`` of scores s ``[N]``, float64 ``[N]``."""
        lower = torch.searchsorted(self.scores, scores.double().cpu().contiguous())
        return (1 + len(self.scores) - lower).double() / (1 + len(self.scores))

    def threshold(self, overkill: float) -> float:
        """The threshold that keeps a false-positive rate: higher scores are called anomalous.

        A score is above it exactly if its p-value is at most ``overkill``.

        Args:
            overkill: the false-positive rate α, above 0 and below 1.

        Returns:
            The threshold; infinity if there are fewer than 1/α − 1 calibration images, which
            cannot guarantee the rate.
        """
        return exceeding(self.scores, overkill)

    def pixel_threshold(self, overkill: float) -> float:
        """The threshold that at most this fraction of normal images has any pixel above.

        Args:
            overkill: the fraction, above 0 and below 1.
        """
        return exceeding(self.peaks, overkill)


def exceeding(ordered: Tensor, fraction: float) -> float:
    """The least of rising values ``[n]`` that a new one exceeds with probability ≤ ``fraction``."""
    # Rounding must not cost an image: 0.29 · 100 is 28.999999999999996.
    beyond = math.floor(fraction * (len(ordered) + 1) + 1e-9)
    return float(ordered[len(ordered) - beyond]) if beyond else math.inf


def fewest(overkill: float) -> int:
    """How many calibration images a false-positive rate needs at least.

    Args:
        overkill: the rate, above 0 and below 1.

    Example:
        >>> fewest(0.05)
        19
    """
    return math.ceil(1 / overkill - 1e-9) - 1
