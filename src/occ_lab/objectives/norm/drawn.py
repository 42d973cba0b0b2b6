"""One random projector after gradient flow, for targets of every norm.

The expected score of the closed form has no feature φ, but plots of angle and length need one. With
random W₀ and b₀, the same in all cells, and a target c = norm·u, Δ(t) = [W₀, b₀ − c] exp(−tΣ/s)
with the Σ of a cell. Therefore

    φ(f) = Δ(t) f̃ + c = p + (1 − s₁) c,   p = [W₀, b₀] exp(−tΣ/s) f̃,   s₁ = eᵀ exp(−tΣ/s) f̃.

Neither p nor s₁ depends on the norm, so three maps, ‖p‖², uᵀp and s₁, give the length and the angle
at every norm.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from occ_lab.objectives.norm.local_form import mean_square, shrunk_moments, spectra
from occ_lab.objectives.norm.local_moments import LocalMoments
from occ_lab.projectors import LocalProjector


class DrawnMaps(nn.Module):
    """The three maps that determine the length of φ and its cosine to the target.

    Args:
        moments: the moments of the training features; they also define the cells and whether
            features are normalised.
        channels: the channels of each level, C in total; φ has C channels too.
        time: t, at least 0.
        seed: the seed of W₀ and b₀ (PyTorch's default, uniform in ±1/√C) and of the target
            (``randn``).

    Example:
        >>> levels = [torch.rand(2, 3, 8, 8), torch.rand(2, 5, 4, 4)]
        >>> moments = LocalMoments(cell=4)
        >>> moments.update(levels)
        >>> parts = DrawnMaps(moments, channels=[3, 5], time=1.0, seed=0)(levels)
        >>> parts.shape
        torch.Size([3, 2, 8, 8])
        >>> length, cosine = length_and_cosine(parts, norm=1.0)
        >>> length.shape
        torch.Size([2, 8, 8])
    """

    direction: Tensor

    def __init__(
        self, moments: LocalMoments, channels: Sequence[int], time: float, seed: int
    ) -> None:
        super().__init__()
        size = sum(channels)
        generator = torch.Generator().manual_seed(seed)
        drawn = torch.rand(size, size + 1, generator=generator, dtype=torch.float64) * 2 - 1
        direction = torch.randn(size, generator=generator)
        self.register_buffer("direction", direction / direction.norm())
        sigma = shrunk_moments(moments)
        variances, vectors = spectra(sigma)
        rates = variances / mean_square(moments)
        left = (vectors * torch.exp(-time * rates)[:, None]) @ vectors.mT
        rows = torch.cat([drawn / math.sqrt(size) @ left, left[:, -1:]], dim=1)
        self.projector = LocalProjector(channels, moments.cell, moments.normalize)
        self.projector.assign_cells(
            rows[..., :-1], rows[..., -1], rows.new_zeros(1, moments.sums.shape[1], 1)
        )

    @torch.no_grad()
    def forward(self, levels: Sequence[Tensor]) -> Tensor:
        """‖p‖², uᵀp and s₁, stacked ``[3, B, H, W]``, of levels ``[B, C_l, H_l, W_l]``."""
        projected = self.projector(levels)
        p, constant = projected[:, :-1], projected[:, -1]
        along = torch.einsum("c,bchw->bhw", self.direction, p)
        return torch.stack([p.square().sum(dim=1), along, constant])


def length_and_cosine(parts: Tensor, norm: float) -> tuple[Tensor, Tensor]:
    """‖φ‖ and the cosine between φ and a target of a given norm.

    Args:
        parts: the output of `DrawnMaps`, ``[3, ...]``.
        norm: ‖c‖₂, above 0.

    Returns:
        The length and the cosine, each ``[...]``; the cosine is in −1..1.
    """
    squares, along, constant = parts
    pull = norm * (1 - constant)
    length = (squares + 2 * pull * along + pull**2).clamp_min(0).sqrt()
    tiny = torch.finfo(length.dtype).tiny
    return length, ((along + pull) / length.clamp_min(tiny)).clamp(-1, 1)
