"""Attribution of the difference between two images' scores to pixels."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from captum import attr
from torch import Tensor

from occ_lab.utils.errors import check_number

Score = Callable[[Tensor], Tensor]

HIDDEN = 8  # occluded images that are scored at a time


class Attribution(ABC):
    """A method that finds the pixels that raise an image's score above that of another image.

    Attributes:
        grain: the standard deviation of the Gaussian that smooths its values in pictures, as a
            fraction of the image's side.
    """

    grain: float

    @abstractmethod
    def __call__(self, score: Score, image: Tensor, baseline: Tensor) -> Tensor:
        """Attribute the score to the pixels.

        Args:
            score: a function of images ``[B, 3, h, w]`` that returns scores ``[B]``.
            image: ``[3, h, w]`` in 0..1.
            baseline: the image to compare with, ``[3, h, w]``.

        Returns:
            ``[h, w]``: above 0 where the image raises the score, below 0 where it lowers it.
        """

    @abstractmethod
    def caption(self, values: Tensor) -> str:
        """A short explanation of red and blue in a picture of its values ``[h, w]``."""


class IntegratedGradients(Attribution):
    """Gradients of the score, integrated along the straight line from the baseline to the image.

    (Sundararajan et al. 2017, arXiv 1703.01365.) A pixel x_i gets ``(x_i − x'_i) ∫₀¹ ∂s/∂x_i
    (x' + α (x − x')) dα`` (equation 1), summed over its colours, where x' is the baseline. The
    integral is computed by Gauss-Legendre quadrature. The values of all pixels sum to s(x) − s(x')
    (proposition 1), up to the error of the quadrature at kinks of the score.

    Args:
        steps: the number of quadrature points, at least 1.

    Raises:
        ValueError: ``steps`` is out of range.

    Example:
        >>> brightness = lambda image: image.mean(dim=(1, 2, 3))
        >>> values = IntegratedGradients()(brightness, torch.ones(3, 4, 4), torch.zeros(3, 4, 4))
        >>> values.shape, round(float(values.sum()), 4)
        (torch.Size([4, 4]), 1.0)
    """

    # Neighbouring pixels often have opposite signs, so a finer picture would show less.
    grain = 1 / 28

    def __init__(self, steps: int = 32) -> None:
        check_number("steps", steps, at_least=1, integer=True)
        self.steps = steps

    def __call__(self, score: Score, image: Tensor, baseline: Tensor) -> Tensor:
        """See `Attribution.__call__`; the score must be differentiable."""
        # One image at a time, because a gradient needs all intermediate results. These are
        # gigabytes if the image is compared with a large bank or cut into hundreds of patches.
        parts = attr.IntegratedGradients(score).attribute(
            image[None], baseline[None], n_steps=self.steps, internal_batch_size=1
        )
        values: Tensor = parts[0].detach().sum(dim=0)
        return values

    def caption(self, values: Tensor) -> str:
        """See `Attribution.caption`."""
        return "red raises it, blue lowers it"


class Occlusion(Attribution):
    """The fall of the score when a square of the image is replaced by the baseline.

    (Zeiler & Fergus 2014, arXiv 1311.2901, section 4.2, where the square is replaced by grey.) Each
    pixel gets the mean over the squares that cover it.

    Args:
        window: the side of the square as a fraction of the image's side, above 0 and at most 1.
        stride: the step of the square as such a fraction, above 0 and at most ``window``.

    Raises:
        ValueError: an argument is out of range; the message begins with its name.

    Example:
        >>> brightness = lambda image: image.mean(dim=(1, 2, 3))
        >>> method = Occlusion(window=0.5, stride=0.5)
        >>> values = method(brightness, torch.ones(3, 4, 4), torch.zeros(3, 4, 4))
        >>> float(values[0, 0]), method.caption(values)
        (0.25, 'hidden: -0.25 (red), +0 (blue)')
    """

    grain = 1 / 56  # smooths the edges of the squares, which carry no meaning

    def __init__(self, window: float = 0.125, stride: float = 0.0625) -> None:
        check_number("window", window, above=0, at_most=1)
        check_number("stride", stride, above=0, at_most=window)
        self.window = window
        self.stride = stride

    @torch.no_grad()
    def __call__(self, score: Score, image: Tensor, baseline: Tensor) -> Tensor:
        """See `Attribution.__call__`."""
        channels, *sides = image.shape
        window, stride = (
            (channels, *(max(1, round(fraction * side)) for side in sides))
            for fraction in (self.window, self.stride)
        )
        falls = attr.Occlusion(score).attribute(
            image[None], window, stride, baseline[None], perturbations_per_eval=HIDDEN
        )
        values: Tensor = falls[0, 0]  # a square is hidden in all colours at once
        return values

    def caption(self, values: Tensor) -> str:
        """See `Attribution.caption`."""
        least, most = (0 - values).aminmax()
        return f"hidden: {least.clamp_max(0):+.2g} (red), {most.clamp_min(0):+.2g} (blue)"
