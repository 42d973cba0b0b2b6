"""A projector that also sees where a position lies."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from occ_lab.errors import UserError
from occ_lab.models.projector import Conv1x1


class CoordConv1x1(Conv1x1):
    """A 1×1 CoordConv (Liu et al. 2018) over the joined levels, the patch descriptor of CFA.

    Two channels are appended to the joined levels: the coordinate along the first spatial axis and
    the one along the second, each from −1 to 1. Their share of the convolution is the same for
    every image, and linear: it is computed once a batch and added.

    Args:
        channels: the channels of each level.
        compression: γ_d; the output has ``sum(channels) // compression`` channels.
        normalize: whether the joined feature vector of each position, without its coordinates, is
            scaled to length √C first.
    """

    def __init__(
        self, channels: Sequence[int], compression: int = 1, normalize: bool = False
    ) -> None:
        super().__init__(channels, compression, normalize)
        self.coordinates = nn.Linear(2, self.out_channels, bias=False)
        # PyTorch's default for the one convolution that the two parts make up.
        bound = (sum(channels) + 2) ** -0.5
        nn.init.uniform_(self.coordinates.weight, -bound, bound)

    def forward(self, levels: Sequence[Tensor]) -> Tensor:
        """Levels ``[B, C_l, H_l, W_l]``, finest first, to a feature map ``[B, C, H, W]``."""
        first = levels[0]
        axes = [
            torch.linspace(-1, 1, side, dtype=first.dtype, device=first.device)
            for side in first.shape[-2:]
        ]
        grid = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1)
        return super().forward(levels) + self.coordinates(grid).permute(2, 0, 1)

    def assign(self, factor: Tensor) -> None:
        """Refuse: a closed form solves for the features alone.

        Raises:
            UserError: always; it names the projector to take.
        """
        raise UserError(
            "projector: a closed form has no coordinates to solve for; take projector=conv1x1"
        )
