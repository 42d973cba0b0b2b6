"""The closed form's score at every norm and every time, from one projection.

In each cell, with Σ = V diag(λ) Vᵀ and y = Vᵀ f̃, the components of exp(−tΣ/s) f̃ along V are
exp(−tλ/s) y, so a time only weights the components. Let A = a·I + norm²·e eᵀ, with a the moment of
the initial weights in every direction and e the unit vector of the constant. The squared score is

    f̃ᵀ F A F f̃ = s₀² + norm² s₁²,   s₀² = a Σₖ exp(−2tλₖ/s) yₖ²,   s₁ = eᵀ F f̃:

These are two maps for each time; from them, every norm costs only an addition and a root. The bias
follows the flow, because a bias that is solved for removes the effect of the norm.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from occ_lab.objectives.norm.closed_form import initial_moment
from occ_lab.objectives.norm.local_form import (
    cell_sizes,
    mean_square,
    mean_terms,
    shrunk_moments,
    spectra,
    time_weights,
)
from occ_lab.objectives.norm.local_moments import LocalMoments
from occ_lab.projectors import LocalProjector


class NormMaps(nn.Module):
    """The two parts of the expected score: from the initial weights and from the target.

    Args:
        moments: the moments of the training features; they also define the cells and whether
            features are normalised.
        channels: the channels of each level, C in total; φ has C channels too.
        times: t, each at least 0.

    Attributes:
        means: the means of both parts at each time over the training positions: float64 ``[2, T]``.

    Example:
        >>> levels = [torch.rand(2, 3, 8, 8), torch.rand(2, 5, 4, 4)]
        >>> moments = LocalMoments(cell=4)
        >>> moments.update(levels)
        >>> maps = NormMaps(moments, channels=[3, 5], times=[1.0, 10.0, 30.0])
        >>> squares, linear = maps(levels)
        >>> squares.shape, linear.shape  # one map for each time and image
        (torch.Size([3, 2, 8, 8]), torch.Size([3, 2, 8, 8]))
    """

    squares: Tensor
    linear: Tensor

    def __init__(
        self, moments: LocalMoments, channels: Sequence[int], times: Sequence[float]
    ) -> None:
        super().__init__()
        sigma, sizes = shrunk_moments(moments), cell_sizes(moments)
        variances, vectors = spectra(sigma)
        unit = mean_square(moments)
        decays = torch.exp(
            -torch.tensor(times, dtype=sigma.dtype)[:, None, None] * variances / unit
        )
        size = sum(channels)
        squares, linear = initial_moment(size, size) * decays**2, decays * vectors[:, -1]
        both = torch.stack([squares, linear**2])
        self.means = mean_terms(both, variances, sizes, unit)
        self.projector = LocalProjector(channels, moments.cell, moments.normalize)
        self.projector.assign_cells(
            vectors.mT[..., :-1], vectors[:, -1], vectors.new_zeros(1, moments.sums.shape[1], 1)
        )
        weight = self.projector.weight
        self.register_buffer("squares", squares.permute(1, 2, 0).to(weight))  # [G, D, T]
        self.register_buffer("linear", linear.permute(1, 2, 0).to(weight))

    @torch.no_grad()
    def forward(self, levels: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """s₀² and s₁, each ``[T, B, H, W]``, of levels ``[B, C_l, H_l, W_l]``."""
        maps = self.projector(levels)
        cells = self.projector.cells(maps.shape[-2:])
        y = cells.split(maps).flatten(1, 2)

        def at_times(weighted: Tensor) -> Tensor:
            parts = weighted.view(cells.count, len(maps), cells.area, -1)
            return cells.merge(parts).permute(1, 0, 2, 3)

        linear = at_times(y @ self.linear)
        return at_times(y.square_() @ self.squares), linear


def integrated(
    spread: Tensor, constant: Tensor, means: Tensor, norm: float
) -> tuple[Tensor, Tensor]:
    """s₀² and s₁² integrated over several times, each time divided by the mean of its score.

    Args:
        spread: s₀² at each time, ``[T, ...]``.
        constant: s₁ at each time, ``[T, ...]``.
        means: the means of s₀² and s₁² over the training positions, ``[2, T]``.
        norm: ‖c‖₂ of the target, which the means of scores depend on.

    Returns:
        Both ``[...]``; the squared score is ``s₀² + norm² s₁²``.

    Example:
        >>> ones = torch.ones(2, 1)
        >>> integrated(ones, ones, means=torch.tensor([[1.0, 3.0], [0.0, 0.0]]), norm=1.0)[0]
        tensor([2.6667])
    """
    weights = time_weights(means[0] + norm**2 * means[1]).to(spread)
    return torch.tensordot(weights, spread, 1), torch.tensordot(weights, constant.square(), 1)
