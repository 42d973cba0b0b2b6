"""From the levels of a backbone to one feature map."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from occ_lab.features.levels import join, unit_scale
from occ_lab.utils.errors import InputError, check_number


class Conv1x1(nn.Module):
    """A 1×1 convolution with bias over the joined levels, applied before they are joined.

    To join levels is to upsample each to the finest grid and to concatenate channels. Both are
    linear and act on positions and channels separately, so that the convolution commutes with
    them: each level is projected at its own resolution by its share of the weight, upsampled and
    added. The result is the same for about a quarter of the arithmetic.

    Args:
        channels: the channels of each level.
        compression: the output has ``sum(channels) // compression`` channels.
        normalize: whether the joined feature vector of each position is scaled to length √C first;
            a scale a position, it commutes with the convolution too, but for the bias.
    """

    def __init__(
        self, channels: Sequence[int], compression: int = 1, normalize: bool = False
    ) -> None:
        check_number("compression", compression, at_least=1, integer=True)
        super().__init__()
        self.channels = list(channels)
        self.normalize = normalize
        self.conv = nn.Conv2d(sum(channels), sum(channels) // compression, kernel_size=1)

    @property
    def out_channels(self) -> int:
        """Channels of the feature map."""
        return self.conv.out_channels

    def forward(self, levels: Sequence[Tensor]) -> Tensor:
        """Levels ``[B, C_l, H_l, W_l]``, finest first, to a feature map ``[B, C, H, W]``."""
        size = levels[0].shape[-2:]
        weights = self.conv.weight.split(self.channels, dim=1)
        assert self.conv.bias is not None
        bias = None if self.normalize else self.conv.bias
        z = F.conv2d(levels[0], weights[0], bias)
        for level, weight in zip(levels[1:], weights[1:], strict=True):
            z += F.interpolate(F.conv2d(level, weight), size, mode="bilinear")
        return z * unit_scale(levels) + self.conv.bias[:, None, None] if self.normalize else z

    def assign(self, factor: Tensor) -> None:
        """Let the output be ``L [f; 1]``.

        Args:
            factor: L, ``[R, ΣC_l + 1]``; the output has R channels from now on.
        """
        here = self.conv.weight
        self.conv = nn.Conv2d(factor.shape[1] - 1, factor.shape[0], 1).to(here)
        with torch.no_grad():
            self.conv.weight.copy_(factor[:, :-1, None, None])
            assert self.conv.bias is not None
            self.conv.bias.copy_(factor[:, -1])

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        rows = state_dict.get(f"{prefix}conv.bias", self.conv.bias)
        assert rows is not None
        if len(rows) != self.conv.out_channels:  # a closed form has set it
            self.conv = nn.Conv2d(self.conv.in_channels, len(rows), 1).to(self.conv.weight)
        super()._load_from_state_dict(state_dict, prefix, *rest)


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
            InputError: always; it names the projector to take.
        """
        raise InputError(
            "projector: a closed form has no coordinates to solve for; take projector=conv1x1"
        )


class Identity(nn.Module):
    """No projection: the levels, joined. For a backbone that is trained itself.

    Args:
        channels: the channels of each level.
    """

    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__()
        self.out_channels = sum(channels)

    def forward(self, levels: Sequence[Tensor]) -> Tensor:
        """Levels ``[B, C_l, H_l, W_l]``, finest first, to a feature map ``[B, C, H, W]``."""
        return join(levels)

    def assign(self, factor: Tensor) -> None:
        """Refuse: there is nothing to set.

        Raises:
            InputError: always; it names the projector to take.
        """
        raise InputError("projector: a closed form sets its weights; take projector=conv1x1")
