"""The norm-space objective with squared distance, solved without iteration.

With a linear projector φ(f) = W f + b and a target c, the loss E‖φ(f) − c‖² is tr(Δ Σ Δᵀ), where
Δ = [W, b − c], f̃ = [f; 1] and Σ = E[f̃ f̃ᵀ]. Gradient flow from Δ₀ is Δ(τ) = Δ₀ exp(−2τΣ). Time is
counted here as t = 2τs, s the mean diagonal of Σ, which has no unit.
"""

from __future__ import annotations

import torch
from torch import Tensor


def decay(sigma: Tensor, time: float) -> Tensor:
    """``F = exp(−t Σ/s)``, what gradient flow of length ``time`` leaves of Δ₀ (from the right).

    Args:
        sigma: Σ, symmetric, float64 ``[C + 1, C + 1]``.
        time: t, at least 0.

    Returns:
        float64 ``[C + 1, C + 1]``, symmetric.
    """
    values, vectors = torch.linalg.eigh(sigma)
    scale = sigma.diagonal().mean()
    return (vectors * torch.exp(-time * values / scale)) @ vectors.T


def initial_moments(inputs: int, outputs: int, norm: float) -> Tensor:
    """The diagonal of ``A = E[Δ₀ᵀ Δ₀]`` over the draw of the projector's initial weights.

    These are uniform in ±1/√C (PyTorch's default), of variance 1/(3C), weights and bias alike, and
    independent of the target, of which only the norm is left.

    Args:
        inputs: C, the channels of f.
        outputs: the channels of φ(f).
        norm: ‖c‖₂.

    Returns:
        float64 ``[C + 1]``.
    """
    diagonal = torch.full((inputs + 1,), outputs / (3 * inputs), dtype=torch.float64)
    diagonal[-1] += norm**2
    return diagonal


def expected_factor(sigma: Tensor, outputs: int, norm: float, time: float) -> Tensor:
    """A factor L of the expected score: ``E[score(f)²] = f̃ᵀ F A F f̃ = ‖L f̃‖²``.

    The expectation is over the initial weights; a wide projector's score is near it. Directions
    whose singular value is less than 1e-4 of the largest are left out: they change a score by less
    than float32 resolves.

    Args:
        sigma: Σ, float64 ``[C + 1, C + 1]``.
        outputs: the channels of φ(f).
        norm: ‖c‖₂.
        time: t, at least 0.

    Returns:
        float64 ``[R, C + 1]``, R at most C + 1.
    """
    left = decay(sigma, time)
    a = initial_moments(sigma.shape[0] - 1, outputs, norm)
    squares, directions = torch.linalg.eigh((left * a) @ left)
    kept = squares > 1e-8 * squares[-1]
    return squares[kept, None].sqrt() * directions.T[kept]
