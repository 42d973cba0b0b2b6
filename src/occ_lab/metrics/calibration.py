"""A threshold from normal images alone: split-conformal p-values."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Calibration:
    """The scores of normal images that a detector was not trained on.

    Where a new normal image is exchangeable with them, its p-value is at most α with a probability
    of at most α, whatever the detector and the distribution (Vovk et al. 2005; Bates et al. 2023,
    arXiv 2104.08279, equation 3).

    Attributes:
        scores: image scores, rising, float64 ``[n]``.
        peaks: the largest value of each anomaly map, which without maps is the image score, rising,
            float64 ``[n]``.
    """

    scores: Tensor
    peaks: Tensor

    @classmethod
    def of(cls, scores: Tensor, peaks: Tensor) -> Calibration:
        """From scores and peaks ``[n]`` in any order."""
        return cls(*(values.double().cpu().sort().values for values in (scores, peaks)))

    def p_values(self, scores: Tensor) -> Tensor:
        """``(1 + #{calibration scores ≥ s}) / (n + 1)`` of scores s ``[N]``, float64 ``[N]``."""
        lower = torch.searchsorted(self.scores, scores.double().cpu().contiguous())
        return (1 + len(self.scores) - lower) / (1 + len(self.scores))

    def threshold(self, overkill: float) -> float:
        """What a score must exceed to be called anomalous at this rate of false alarms.

        A score exceeds it exactly where its p-value is at most ``overkill``.

        Args:
            overkill: α, above 0 and below 1.

        Returns:
            Infinity where fewer than 1/α − 1 calibration images cannot guarantee the rate.
        """
        return exceeding(self.scores, overkill)

    def pixel_threshold(self, overkill: float) -> float:
        """What a pixel must exceed so that only this share of normal images has any such pixel."""
        return exceeding(self.peaks, overkill)


def exceeding(ordered: Tensor, share: float) -> float:
    """The least of rising values ``[n]`` that a new one exceeds with probability ≤ ``share``."""
    # Rounding must not cost an image: 0.07 · 100 is 7.000000000000001.
    beyond = math.floor(share * (len(ordered) + 1) + 1e-9)
    return float(ordered[len(ordered) - beyond]) if beyond else math.inf


def fewest(overkill: float) -> int:
    """How many calibration images a rate of false alarms needs at least."""
    return math.ceil(1 / overkill - 1e-9) - 1
