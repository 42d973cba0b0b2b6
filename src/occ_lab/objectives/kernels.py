"""Gaussian kernels between feature vectors."""

from __future__ import annotations

import torch
from torch import Tensor

from occ_lab.utils.errors import InputError


def kernel_gamma(vectors: Tensor, scale: float) -> Tensor:
    """``γ = scale / (v C)``, v the variance over all entries of vectors ``[N, C]`` of length 1.

    (Sohn et al. 2021, arXiv 2011.02578, in their code with scale 10.) ``v C`` is at most 1, so that
    γ is at least ``scale``.

    Returns:
        A scalar.

    Raises:
        InputError: the entries are all alike.
    """
    spread = vectors.var(correction=0) * vectors.shape[1]
    if spread <= torch.finfo(vectors.dtype).eps:  # rounding leaves up to 10⁻⁴ of that where none is
        raise InputError(
            f"scale: γ = scale / (variance · C) has no value: at length 1 the {len(vectors)} "
            "training features kept have the same value in every channel; check the training "
            "images and the backbone's weights",
            part="objective",
        )
    return scale / spread


def log_kernel_sum(
    features: Tensor, centres: Tensor, weights: Tensor, gamma: Tensor, chunk: int
) -> Tensor:
    """``log Σ_j w_j exp(−γ ‖x − c_j‖²)`` of every feature x.

    Finite however far away x is, where the sum itself would round to zero.

    Args:
        features: ``[N, C]``.
        centres: ``[M, C]``.
        weights: w, at least 0 and not all 0, ``[M]``.
        gamma: γ, a scalar.
        chunk: features whose kernels with all centres are computed at a time.

    Returns:
        ``[N]``.
    """
    origin = centres.mean(dim=0)  # seen from there all is shorter, and rounding does less
    centres = centres - origin
    constant = weights.log() - gamma * centres.square().sum(dim=1)
    sums = []
    for part in torch.split(features, chunk):
        x = part - origin
        # ‖x‖² is the same in all terms, and stays outside the sum.
        exponents = torch.addmm(constant, 2 * gamma * x, centres.T)
        sums.append(exponents.logsumexp(dim=1) - gamma * x.square().sum(dim=1))
    return torch.cat(sums)
