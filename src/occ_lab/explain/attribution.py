"""Where in an image its score comes from, beside an image that has another score."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from captum import attr
from torch import Tensor

from occ_lab.utils.errors import check_number

Score = Callable[[Tensor], Tensor]

HIDDEN = 8  # images that are scored at once without a gradient


class Attribution(ABC):
    """A way to tell which pixels of an image raise its score above that of another image.

    Attributes:
        grain: standard deviation of the Gaussian that evens out its values in pictures, as a share
            of the image's side.
    """

    grain: float

    @abstractmethod
    def __call__(self, score: Score, image: Tensor, baseline: Tensor) -> Tensor:
        """What each pixel does to the score.

        Args:
            score: images ``[B, 3, h, w]`` to scores ``[B]``.
            image: ``[3, h, w]`` in 0..1.
            baseline: what the image is held against, ``[3, h, w]``.

        Returns:
            ``[h, w]``, above 0 where the image raises the score and below 0 where it lowers it.
        """

    @abstractmethod
    def told(self, values: Tensor) -> str:
        """What red and blue are in a picture of its values ``[h, w]``, in a few words."""


class IntegratedGradients(Attribution):
    """Gradients of the score, summed up on the straight way from the baseline to the image.

    (Sundararajan et al. 2017, arXiv 1703.01365.) A pixel x_i gets ``(x_i − x'_i) ∫₀¹ ∂s/∂x_i
    (x' + α (x − x')) dα`` (equation 1), x' the baseline, added up over its colours; Gauss-Legendre
    quadrature takes the integral. All pixels together get s(x) − s(x') (proposition 1), as exactly
    as the points resolve a score that has kinks.

    Args:
        steps: points of the quadrature, at least 1.
    """

    # Neighbouring pixels often get opposite signs: the finer the picture, the less it shows.
    grain = 1 / 28

    def __init__(self, steps: int = 32) -> None:
        check_number("steps", steps, at_least=1, integer=True)
        self.steps = steps

    def __call__(self, score: Score, image: Tensor, baseline: Tensor) -> Tensor:
        """See `Attribution`; the score must be differentiable."""
        # One at a time: for the gradient all is kept that an image goes through, which is
        # gigabytes where it is compared with a large bank or cut into hundreds of patches.
        shares = attr.IntegratedGradients(score).attribute(
            image[None], baseline[None], n_steps=self.steps, internal_batch_size=1
        )
        return shares[0].detach().sum(dim=0)

    def told(self, values: Tensor) -> str:
        """See `Attribution`."""
        return "red raises it, blue lowers it"


class Occlusion(Attribution):
    """How much the score falls when a square of the image is hidden by the baseline's.

    (Zeiler & Fergus 2014, arXiv 1311.2901, section 4.2, who hide it by grey.) Each pixel gets the
    mean over the squares that cover it.

    Args:
        window: side of the square as a share of the image's, above 0 and at most 1.
        stride: how far it moves at a time, as such a share, above 0 and at most ``window``.
    """

    grain = 1 / 56  # the squares' edges mean nothing

    def __init__(self, window: float = 0.125, stride: float = 0.0625) -> None:
        check_number("window", window, above=0, at_most=1)
        check_number("stride", stride, above=0, at_most=window)
        self.window = window
        self.stride = stride

    @torch.no_grad()
    def __call__(self, score: Score, image: Tensor, baseline: Tensor) -> Tensor:
        """See `Attribution`."""
        channels, *sides = image.shape
        window, stride = (
            (channels, *(max(1, round(share * side)) for side in sides))
            for share in (self.window, self.stride)
        )
        falls = attr.Occlusion(score).attribute(
            image[None], window, stride, baseline[None], perturbations_per_eval=HIDDEN
        )
        return falls[0, 0]  # a square is hidden in all colours at once

    def told(self, values: Tensor) -> str:
        """See `Attribution`."""
        least, most = (0 - values).aminmax()
        return f"hidden: {least.clamp_max(0):+.2g} (red), {most.clamp_min(0):+.2g} (blue)"
