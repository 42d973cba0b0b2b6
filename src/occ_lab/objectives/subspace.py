"""A linear subspace of normal features, scored by what lies outside of it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from occ_lab.objectives.base import Objective
from occ_lab.objectives.gaussian import mean_and_covariance
from occ_lab.objectives.norm.closed_form import spectrum
from occ_lab.objectives.norm.moments import Moments
from occ_lab.projectors import Conv1x1, Projector
from occ_lab.utils.errors import InputError, check_number


class Subspace(Objective):
    """Squared distance to the principal subspace of the features of all positions.

    (SubspaceAD, Lendering et al. 2026, arXiv 2602.23013.) With mean μ and the first k principal
    components V_k of the concatenated levels f, the score is the squared residual
    ``‖(I − V_k V_kᵀ)(f − μ)‖²``. k is the smallest number of components that explain a fraction τ
    of the variance. With the other components V_r the score equals ``‖V_rᵀ (f − μ)‖²``, so the
    projector can compute it at each level's own resolution.

    It is the limit of the closed form of the norm objective for long times, with a hard threshold
    between directions instead of a smooth decay, see `occ_lab.objectives.norm.local_form`.

    Args:
        explained: τ, above 0 and below 1.

    Raises:
        ValueError: ``explained`` is out of range.

    Example:
        >>> levels = [torch.randn(6, 3, 8, 8), torch.randn(6, 5, 4, 4)]  # of six normal images
        >>> objective = Subspace(explained=0.9)
        >>> projector = objective.default_projector([3, 5])
        >>> objective.observe(levels)
        >>> objective.finish(projector)
        >>> objective(projector(levels)).shape
        torch.Size([6, 8, 8])
    """

    one_pass = True

    def __init__(self, explained: float = 0.99) -> None:
        check_number("explained", explained, above=0)
        if explained >= 1:
            raise ValueError(f"explained must be a number and < 1, got {explained!r}")
        super().__init__()
        self.explained = explained
        self.moments = Moments()

    def default_projector(self, channels: Sequence[int]) -> Projector:
        """`Conv1x1`, whose weights `finish` sets."""
        return Conv1x1(channels)

    def observe(self, levels: Sequence[Tensor]) -> None:
        """Add a batch of levels ``[B, C_l, H_l, W_l]`` to the second moments."""
        self.moments.update(levels)

    def finish(self, projector: Projector) -> None:
        """Set the projector to ``[V_rᵀ, −V_rᵀ μ]``.

        Raises:
            InputError: there are no images, all components are needed, or the projector is not
                `Conv1x1`.
        """
        self.moments.build(projector.channels)
        self.moments.reduce()
        if not self.moments.total[-1, -1]:
            raise InputError("the training set has no images", part="dataset")
        mean, covariance = mean_and_covariance(self.moments.mean.cpu())
        rest = outside(covariance, self.explained)
        projector.assign(torch.cat([rest, -rest @ mean[:, None]], dim=1))

    def forward(self, z: Tensor) -> Tensor:
        """The squared lengths ``[B, H, W]`` of the vectors of maps ``[B, C, H, W]``.

        After `finish` they are the squared residuals.
        """
        return z.square().sum(dim=1)


def outside(covariance: Tensor, explained: float) -> Tensor:
    """The directions that are orthogonal to the principal subspace.

    Args:
        covariance: symmetric, float64 ``[C, C]``.
        explained: the least fraction of the variance that the subspace explains, above 0 and below
            1.

    Returns:
        Orthonormal rows, float64 ``[C − k, C]``.

    Raises:
        InputError: the subspace is the whole space.

    Example:
        >>> outside(torch.diag(torch.tensor([1.0, 8.0, 1.0])).double(), explained=0.75).shape
        torch.Size([2, 3])
    """
    variances, vectors = spectrum(covariance)
    variances = variances.nan_to_num(0).clamp_min(0)  # relative to their mean, which may be zero
    # A component belongs to the subspace if the larger ones do not explain enough without it.
    larger = variances.flip(0).cumsum(0).flip(0) - variances
    kept = larger >= explained * variances.sum()
    if not kept.any():
        raise InputError(
            f"explained: a fraction of {explained:g} of the variance takes all {len(kept)} "
            "directions, and nothing is left to score by; set a lower one",
            part="objective",
        )
    return vectors.mT[kept]
