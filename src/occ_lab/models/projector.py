"""From the levels of a backbone to one feature map."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from occ_lab.errors import UserError, check_number
from occ_lab.features.join import join, unit_scale


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
            UserError: always; it names the projector to take.
        """
        raise UserError("projector: a closed form sets its weights; take projector=conv1x1")
