"""A threshold from normal images alone: split-conformal p-values."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

RATE = 0.01  # the default false-positive rate if there are enough images


@dataclass(frozen=True)
class Calibration:
    """The scores of normal images that a detector was not trained on.

    If a new normal image is exchangeable with them, its p-value is at most α with a probability of
    at most α, for any detector and distribution (Vovk et al. 2005; Bates et al. 2023, arXiv
    2104.08279, equation 3). Use `of` to make one from scores in any order.

    Args:
        scores: image scores in ascending order, float64 ``[n]``.
        peaks: the largest value of each anomaly map (the image score if there are no maps), in
            ascending order, float64 ``[n]``.
        segmentation: the threshold of `segmentation_threshold` for the pixels of their maps; None
            if it is unknown.

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
    segmentation: float | None = None

    @classmethod
    def of(cls, scores: Tensor, peaks: Tensor) -> Calibration:
        """Make one from scores and peaks ``[n]`` in any order.

        Raises:
            ValueError: a value is not finite.
        """
        for name, values in (("scores", scores), ("peaks", peaks)):
            wrong = int((~values.isfinite()).sum())
            if wrong:
                raise ValueError(f"{name}: {wrong} of {len(values)} are not finite")
        scores, peaks = (values.cpu().double().sort().values for values in (scores, peaks))
        return cls(scores, peaks)

    def p_values(self, scores: Tensor) -> Tensor:
        """``(1 + #{calibration scores ≥ s}) / (n + 1)`` of scores s ``[N]``, float64 ``[N]``.

        The p-value of a score that is not finite is NaN, because it says nothing about its image.
        """
        scores = scores.cpu().double().contiguous()
        lower = torch.searchsorted(self.scores, scores)
        p_values = (1 + len(self.scores) - lower).double() / (1 + len(self.scores))
        return torch.where(scores.isfinite(), p_values, torch.nan)

    def anomalous(self, scores: Tensor, overkill: float) -> Tensor:
        """The decisions on scores ``[N]`` at a false-positive rate, bool ``[N]``.

        A score that is not finite is never classified as normal.
        """
        scores = scores.cpu().double()
        return (scores > self.threshold(overkill)) | ~scores.isfinite()

    def threshold(self, overkill: float) -> float:
        """The threshold for a false-positive rate: images with higher scores are anomalous.

        A score is above the threshold exactly if its p-value is at most ``overkill``.

        Args:
            overkill: the false-positive rate α, above 0 and below 1.

        Returns:
            The threshold; infinity if there are fewer than 1/α − 1 calibration images, which is too
            few to guarantee the rate.
        """
        return exceeding(self.scores, overkill)

    def pixel_threshold(self, overkill: float) -> float:
        """The threshold that the anomaly map exceeds somewhere in at most a fraction of images.

        Args:
            overkill: the fraction of normal images, above 0 and below 1.
        """
        return exceeding(self.peaks, overkill)


def exceeding(ordered: Tensor, fraction: float) -> float:
    """The smallest of ascending values ``[n]`` that a new one exceeds with at most ``fraction``."""
    # Rounding must not lose an image: 0.29 · 100 is 28.999999999999996.
    beyond = math.floor(fraction * (len(ordered) + 1) + 1e-9)
    return float(ordered[len(ordered) - beyond]) if beyond else math.inf


def smallest_rate(images: int) -> float:
    """The smallest false-positive rate that a number of images can guarantee, 1/(n + 1).

    Args:
        images: n, the number of calibration images, at least 0.

    Example:
        >>> smallest_rate(19)
        0.05
    """
    return 1 / (images + 1)


def kept_rate(images: int, overkill: float) -> float:
    """The false-positive rate that a threshold really keeps: ⌊α (n + 1)⌋ / (n + 1), at most α.

    Args:
        images: n, the number of calibration images, at least 0.
        overkill: α, the requested rate, above 0 and below 1.

    Example:
        >>> kept_rate(29, 0.05)  # one of 30
        0.03333333333333333
    """
    return math.floor(overkill * (images + 1) + 1e-9) / (images + 1)


def rounded_up(rate: float) -> float:
    """A rate rounded up to two significant digits.

    Args:
        rate: the rate, above 0.

    Example:
        >>> rounded_up(1 / 49), rounded_up(0.05)
        (0.021, 0.05)
    """
    digits = 1 - math.floor(math.log10(rate))
    scale = float(10**digits)
    return round(math.ceil(rate * scale - 1e-9) / scale, digits)


def fewest(overkill: float) -> int:
    """The smallest number of calibration images for a false-positive rate.

    Args:
        overkill: the rate, above 0 and below 1.

    Example:
        >>> fewest(0.05)
        19
    """
    return math.ceil(1 / overkill - 1e-9) - 1
