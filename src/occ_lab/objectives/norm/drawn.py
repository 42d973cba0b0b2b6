"""One draw of the projector, brought along the gradient flow, for targets of every norm.

The closed form's expected score has no feature φ any more; the pictures of angle and length need
one. From drawn W₀ and b₀ and a target c = norm·u, Δ(t) = [W₀, b₀ − c] exp(−tΣ/s), and so

    φ(f) = Δ(t) f̃ + c = p + (1 − s₁) c,   p = [W₀, b₀] exp(−tΣ/s) f̃,   s₁ = eᵀ exp(−tΣ/s) f̃.

Neither p nor s₁ knows the norm: three maps, ‖p‖², uᵀp and s₁, give length and angle at any.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from occ_lab.objectives.norm.closed_form import decay
from occ_lab.projectors import Conv1x1


class DrawnMaps(nn.Module):
    """What length of φ and cosine to the target depend on.

    Args:
        sigma: Σ of the training features, float64 ``[C + 1, C + 1]``.
        channels: the channels of each level, C in all; φ has C as well.
        time: t, at least 0.
        normalize: whether each feature vector is scaled to length √C first, as it was for Σ.
        seed: of W₀ and b₀ (PyTorch's default, uniform in ±1/√C) and of the target (``randn``).
    """

    direction: Tensor

    def __init__(
        self, sigma: Tensor, channels: Sequence[int], time: float, normalize: bool, seed: int
    ) -> None:
        super().__init__()
        size = sum(channels)
        generator = torch.Generator().manual_seed(seed)
        drawn = torch.rand(size, size + 1, generator=generator, dtype=sigma.dtype) * 2 - 1
        direction = torch.randn(size, generator=generator)
        self.register_buffer("direction", direction / direction.norm())
        left = decay(sigma, time)
        self.projector = Conv1x1(channels, normalize=normalize)
        self.projector.assign(torch.cat([drawn / math.sqrt(size) @ left, left[-1:]]))

    @torch.no_grad()
    def forward(self, levels: Sequence[Tensor]) -> Tensor:
        """‖p‖², uᵀp and s₁, stacked ``[3, B, H, W]``, of levels ``[B, C_l, H_l, W_l]``."""
        projected = self.projector(levels)
        p, constant = projected[:, :-1], projected[:, -1]
        along = torch.einsum("c,bchw->bhw", self.direction, p)
        return torch.stack([p.square().sum(dim=1), along, constant])


def length_and_cosine(parts: Tensor, norm: float) -> tuple[Tensor, Tensor]:
    """‖φ‖ and the cosine between φ and a target of this norm.

    Args:
        parts: what `DrawnMaps` gives, ``[3, ...]``.
        norm: ‖c‖₂, above 0.

    Returns:
        Both of the shape behind the first axis; the cosine in -1..1.
    """
    squares, along, constant = parts
    pull = norm * (1 - constant)
    length = (squares + 2 * pull * along + pull**2).clamp_min(0).sqrt()
    tiny = torch.finfo(length.dtype).tiny
    return length, ((along + pull) / length.clamp_min(tiny)).clamp(-1, 1)
