"""The closed form's score at every norm and every time, from one projection.

With Σ = V diag(λ) Vᵀ and y = Vᵀ f̃, the components of exp(−tΣ/s) f̃ along V are exp(−tλ/s) y: a
time only weights the components. With A = a·I + norm²·e eᵀ, a the moment that the
initial weights put in every direction and e the unit vector of the constant, the squared score is

    f̃ᵀ F A F f̃ = s₀² + norm² s₁²,   s₀² = a Σₖ exp(−2tλₖ/s) yₖ²,   s₁ = eᵀ F f̃:

two maps for each time, from which every norm costs an addition and a root.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from occ_lab.objectives.norm.closed_form import initial_moment, spectrum
from occ_lab.projectors import Conv1x1


class NormMaps(nn.Module):
    """The two parts of the expected score: that of the initial weights and that of the target.

    Args:
        sigma: Σ of the training features, float64 ``[C + 1, C + 1]``.
        channels: the channels of each level, C in all; φ has C as well.
        times: t, each at least 0.
        normalize: whether each feature vector is scaled to length √C first, as it was for Σ.

    Example:
        >>> sigma = torch.eye(9, dtype=torch.float64)
        >>> maps = NormMaps(sigma, channels=[3, 5], times=[1.0, 10.0], normalize=False)
        >>> squares, linear = maps([torch.rand(2, 3, 8, 8), torch.rand(2, 5, 4, 4)])
        >>> squares.shape, linear.shape  # one map for each time and image
        (torch.Size([2, 2, 8, 8]), torch.Size([2, 2, 8, 8]))
    """

    squares: Tensor
    linear: Tensor

    def __init__(
        self, sigma: Tensor, channels: Sequence[int], times: Sequence[float], normalize: bool
    ) -> None:
        super().__init__()
        rates, vectors = spectrum(sigma)
        decays = torch.exp(-torch.tensor(times, dtype=sigma.dtype)[:, None] * rates)
        size = sum(channels)
        self.projector = Conv1x1(channels, normalize=normalize)
        self.projector.assign(vectors.T)
        weight = self.projector.conv.weight
        self.register_buffer("squares", (initial_moment(size, size) * decays**2).to(weight))
        self.register_buffer("linear", (decays * vectors[-1]).to(weight))

    @torch.no_grad()
    def forward(self, levels: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """s₀² and s₁, each ``[T, B, H, W]``, of levels ``[B, C_l, H_l, W_l]``."""
        y = self.projector(levels)
        linear = torch.einsum("tc,bchw->tbhw", self.linear, y)
        return torch.einsum("tc,bchw->tbhw", self.squares, y.square_()), linear
