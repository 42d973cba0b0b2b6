"""A single Gaussian for the features of all positions, and helpers for any Gaussian."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from occ_lab.objectives.base import Objective
from occ_lab.objectives.norm.moments import Moments
from occ_lab.projectors import Conv1x1, Projector
from occ_lab.utils.errors import InputError, check_number


class Gaussian(Objective):
    """Mahalanobis distance to a single Gaussian over all positions of all training images.

    With mean μ and covariance Σ of the concatenated levels f, the score is
    ``√((f − μ)ᵀ Σ_s⁻¹ (f − μ))``, with Σ_s as in `inverse_factor` (Lee et al. 2018, arXiv
    1807.03888, equation 2, with one class and without the square). It equals ``‖W f − W μ‖`` for an
    inverse Cholesky factor W, so the projector can compute it at each level's own resolution.

    Args:
        shrinkage: s, from 0 to 1; with 1 the score is the Euclidean distance to the mean, scaled.
        normalize: whether to scale each feature vector to length √C first. The projector must
            scale it as well, as the default one does.

    Raises:
        ValueError: ``shrinkage`` is out of range.

    Example:
        >>> levels = [torch.randn(6, 3, 8, 8), torch.randn(6, 5, 4, 4)]  # of six normal images
        >>> objective = Gaussian()
        >>> projector = objective.default_projector([3, 5])
        >>> objective.observe(levels)
        >>> objective.finish(projector)
        >>> objective(projector(levels)).shape
        torch.Size([6, 8, 8])
    """

    one_pass = True

    def __init__(self, shrinkage: float = 0.01, normalize: bool = False) -> None:
        check_number("shrinkage", shrinkage, at_least=0, at_most=1)
        super().__init__()
        self.shrinkage = shrinkage
        self.moments = Moments(normalize)

    def default_projector(self, channels: Sequence[int]) -> Projector:
        """`Conv1x1`, whose weights `finish` sets."""
        return Conv1x1(channels, normalize=self.moments.normalize)

    def observe(self, levels: Sequence[Tensor]) -> None:
        """Add a batch of levels ``[B, C_l, H_l, W_l]`` to the second moments."""
        self.moments.update(levels)

    def finish(self, projector: Projector) -> None:
        """Set the projector to ``[W, −W μ]``.

        Raises:
            InputError: the covariance is singular, or the projector is not `Conv1x1`.
        """
        self.moments.build(projector.channels)
        self.moments.reduce()
        mean, covariance = mean_and_covariance(self.moments.mean.cpu())
        factor = inverse_factor(covariance, self.shrinkage, covariance.diagonal().mean())
        projector.assign(torch.cat([factor, -factor @ mean[:, None]], dim=1))

    def forward(self, z: Tensor) -> Tensor:
        """The lengths ``[B, H, W]`` of the vectors of maps ``[B, C, H, W]``.

        After `finish` they are the Mahalanobis distances.
        """
        distance: Tensor = torch.linalg.vector_norm(z, dim=1)
        return distance


def mean_and_covariance(moments: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and covariance from second moments.

    Args:
        moments: E[f̃ f̃ᵀ] with f̃ = [f; 1], ``[..., C + 1, C + 1]``.

    Returns:
        μ ``[..., C]`` and Σ ``[..., C, C]``.

    Example:
        >>> mean_and_covariance(torch.tensor([[5.0, 2.0], [2.0, 1.0]]))
        (tensor([2.]), tensor([[1.]]))
    """
    mean = moments[..., :-1, -1]
    return mean, moments[..., :-1, :-1] - mean[..., :, None] * mean[..., None, :]


def inverse_factor(covariance: Tensor, shrinkage: float, scale: Tensor) -> Tensor:
    """W with ``Wᵀ W = Σ_s⁻¹``, so that ``‖W x‖`` is the Mahalanobis length of x.

    ``Σ_s = (1 − s) Σ + s v I``, where v is a mean variance. For a single Gaussian it is
    ``tr Σ / C`` (the form of Ledoit & Wolf 2004, with s given). With s above 0 it is
    invertible, however few features Σ was computed from.

    Args:
        covariance: Σ, float64 ``[..., C, C]``.
        shrinkage: s, from 0 to 1.
        scale: v, a scalar.

    Returns:
        Lower triangular, float64 ``[..., C, C]``.

    Raises:
        InputError: some Σ_s is singular within rounding.

    Example:
        >>> inverse_factor(4 * torch.eye(2), shrinkage=0.0, scale=torch.tensor(4.0))
        tensor([[0.5000, 0.0000],
                [0.0000, 0.5000]])
    """
    identity = torch.eye(covariance.shape[-1], dtype=covariance.dtype, device=covariance.device)
    shrunk = (1 - shrinkage) * covariance + shrinkage * scale * identity
    factor, failed = torch.linalg.cholesky_ex(shrunk)
    # If Σ_s is singular, rounding may still leave a tiny positive pivot.
    pivots = factor.diagonal(dim1=-2, dim2=-1).square()
    if failed.any() or pivots.min() <= len(identity) * torch.finfo(factor.dtype).eps * scale:
        raise InputError(
            "shrinkage: the covariance of the features is singular; set a larger one, or use more "
            "training images if it is above 0",
            part="objective",
        )
    inverse: Tensor = torch.linalg.solve_triangular(factor, identity, upper=False)
    return inverse
