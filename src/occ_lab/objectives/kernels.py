"""Gaussian kernels between feature vectors."""

from __future__ import annotations

import torch
from torch import Tensor

from occ_lab.objectives.selection import rows_at_a_time
from occ_lab.utils.errors import InputError


def kernel_gamma(vectors: Tensor, scale: float) -> Tensor:
    """``γ = scale / (v C)``, v the variance over all entries of vectors ``[N, C]`` of length 1.

    (Sohn et al. 2021, arXiv 2011.02578; their code has scale 10.) ``v C`` is at most 1, so γ is at
    least ``scale``.

    Returns:
        A scalar.

    Raises:
        InputError: all entries are equal.

    Example:
        >>> kernel_gamma(torch.eye(2), scale=10.0)
        tensor(20.)
    """
    spread = vectors.var(correction=0) * vectors.shape[1]
    if spread <= torch.finfo(vectors.dtype).eps:  # equal entries leave up to 1e-4 of it
        raise InputError(
            f"scale: γ = scale / (variance · C) is undefined: at length 1 the {len(vectors)} "
            "training features kept have the same value in every channel; check the training "
            "images and the backbone's weights",
            part="objective",
        )
    return scale / spread


def log_kernel_sum(
    features: Tensor, centres: Tensor, weights: Tensor, gamma: Tensor, chunk: int | None = None
) -> Tensor:
    """``log Σ_j w_j exp(−γ ‖x − c_j‖²)`` of every feature x.

    The result is finite even if x is so far away that the sum itself would round to zero.

    Args:
        features: ``[N, C]``.
        centres: ``[M, C]``.
        weights: w ``[M]``, at least 0 and not all 0.
        gamma: γ, a scalar.
        chunk: the number of features whose kernels with all centres are computed at a time; None
            suits the device.

    Returns:
        ``[N]``.

    Example:
        >>> x, centre, one = torch.tensor([[3.0, 4.0]]), torch.zeros(1, 2), torch.ones(1)
        >>> log_kernel_sum(x, centre, one, gamma=torch.tensor(2.0))
        tensor([-50.])
    """
    # Vectors relative to the mean are shorter, so rounding affects their distances less.
    origin = centres.mean(dim=0)
    centres = centres - origin
    constant = weights.log() - gamma * centres.square().sum(dim=1)
    sums = []
    for part in torch.split(features, rows_at_a_time(chunk, centres)):
        x = part - origin
        # ‖x‖² is the same in all terms and is factored out of the sum.
        exponents = torch.addmm(constant, 2 * gamma * x, centres.T)
        sums.append(exponents.logsumexp(dim=1) - gamma * x.square().sum(dim=1))
    return torch.cat(sums)
