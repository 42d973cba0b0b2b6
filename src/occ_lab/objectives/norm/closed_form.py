"""The norm-space objective with squared distance, solved without iteration.

With a linear projector φ(f) = W f + b and a target c, the loss E‖φ(f) − c‖² is tr(Δ Σ Δᵀ), where
Δ = [W, b − c], f̃ = [f; 1] and Σ = E[f̃ f̃ᵀ]. Gradient flow from Δ₀ is Δ(τ) = Δ₀ exp(−2τΣ). Here,
time is measured as t = 2τs, where s is the mean diagonal of Σ; it has no unit.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy.linalg.lapack import dpstrf
from torch import Tensor

from occ_lab.utils.errors import InputError

SMALL = 512  # rows; up to this size, decomposing the whole matrix is as fast
RANK = 1e-7  # of the largest diagonal entry; smaller ones are rounding errors of float32
FAINT = 1e-18  # the squares of shorter features round to zero in float32


def spectrum(sigma: Tensor) -> tuple[Tensor, Tensor]:
    """The rates at which gradient flow shrinks the directions of f̃, and these directions.

    With few images Σ has a low rank. A large Σ is then decomposed within its range, which is
    several times faster; directions outside of it have rate zero.

    Args:
        sigma: Σ, symmetric, float64 ``[C + 1, C + 1]``.

    Returns:
        λ/s ``[C + 1]``, ascending, and the eigenvectors of Σ as columns ``[C + 1, C + 1]``.

    Example:
        >>> rates, vectors = spectrum(torch.diag(torch.tensor([3.0, 1.0], dtype=torch.float64)))
        >>> rates
        tensor([0.5000, 1.5000], dtype=torch.float64)
    """
    scale = sigma.diagonal().mean()
    rank = len(sigma)
    if rank > SMALL:
        # The threads of SciPy's library would keep spinning for a while and slow down PyTorch's.
        triangle, pivots, rank, _ = dpstrf(
            sigma.numpy(), tol=float(RANK * sigma.diagonal().max()), lower=1
        )
    if rank > len(sigma) // 2:
        values, vectors = torch.linalg.eigh(sigma)
        return values / scale, vectors
    low = np.zeros((len(sigma), rank))  # Σ = low lowᵀ, by a pivoted Cholesky factorisation
    low[pivots - 1] = np.tril(triangle)[:, :rank]
    q, r = torch.linalg.qr(torch.from_numpy(low), mode="complete")
    inner = r[:rank]
    values, vectors = torch.linalg.eigh(inner @ inner.T)
    rates = torch.cat([values.new_zeros(len(sigma) - rank), values / scale])
    return rates, torch.cat([q[:, rank:], q[:, :rank] @ vectors], dim=1)


def initial_moment(inputs: int, outputs: int) -> float:
    """The second moment of the initial weights in every direction of f̃.

    Weights and bias are uniform in ±1/√C (PyTorch's default), with variance 1/(3C), and independent
    of the target, of which only the norm matters. With e the unit vector of the constant,
    ``A = E[Δ₀ᵀ Δ₀]`` is this moment times the identity, plus ``norm² e eᵀ``.

    Args:
        inputs: C, the number of channels of f.
        outputs: the number of channels of φ(f).

    Example:
        >>> initial_moment(100, 150)
        0.5
    """
    return outputs / (3 * inputs)


def expected_factor(sigma: Tensor, outputs: int, norm: float, time: float) -> Tensor:
    """A factor L of the expected score: ``E[score(f)²] = f̃ᵀ F A F f̃ = ‖L f̃‖²``.

    The expectation is over the initial weights; the score of a wide projector is close to it. With
    Σ = V diag(λ) Vᵀ, the rows of L are those of ``√a exp(−tλ/s) Vᵀ``, where a is the initial
    moment, and ``norm · eᵀF``. Rows shorter than 1e-4 of the longest row are left out, because they
    change a score by less than the resolution of float32.

    Args:
        sigma: Σ, float64 ``[C + 1, C + 1]``.
        outputs: the number of channels of φ(f).
        norm: ‖c‖₂.
        time: t, at least 0.

    Returns:
        float64 ``[R, C + 1]``, R at most C + 2.

    Raises:
        InputError: nothing of any direction is left within the range of float32.

    Example:
        >>> sigma = torch.eye(9, dtype=torch.float64)
        >>> expected_factor(sigma, outputs=8, norm=1.0, time=1.0).shape
        torch.Size([10, 9])
    """
    return factor_of(*spectrum(sigma), outputs, norm, time)


def factor_of(rates: Tensor, vectors: Tensor, outputs: int, norm: float, time: float) -> Tensor:
    """As `expected_factor`, from the `spectrum` of Σ."""
    left = torch.exp(-time * rates)
    drawn = initial_moment(len(rates) - 1, outputs) ** 0.5 * left[:, None] * vectors.T
    target = norm * (vectors[-1] * left) @ vectors.T
    factor = torch.cat([drawn, target[None]])
    lengths = torch.linalg.vector_norm(factor, dim=1)
    if lengths.max() < FAINT:
        raise InputError(
            f"time: a flow of length t = {time:g} leaves nothing of features; set a shorter one",
            part="objective",
        )
    return factor[lengths > 1e-4 * lengths.max()]
