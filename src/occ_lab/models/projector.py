"""From the levels of a backbone to one feature map."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from occ_lab.errors import check_number


class Conv1x1(nn.Module):
    """A 1×1 convolution with bias over the joined levels, applied before they are joined.

    To join levels is to upsample each to the finest grid and to concatenate channels. Both are
    linear and act on positions and channels separately, so that the convolution commutes with
    them: each level is projected at its own resolution by its share of the weight, upsampled and
    added. The result is the same for about a quarter of the arithmetic.

    Args:
        channels: the channels of each level.
        compression: the output has ``sum(channels) // compression`` channels.
    """

    def __init__(self, channels: Sequence[int], compression: int = 1) -> None:
        check_number("compression", compression, at_least=1, integer=True)
        super().__init__()
        self.channels = list(channels)
        self.conv = nn.Conv2d(sum(channels), sum(channels) // compression, kernel_size=1)

    @property
    def out_channels(self) -> int:
        """Channels of the feature map."""
        return self.conv.out_channels

    def forward(self, levels: Sequence[Tensor]) -> Tensor:
        """Levels ``[B, C_l, H_l, W_l]``, finest first, to a feature map ``[B, C, H, W]``."""
        size = levels[0].shape[-2:]
        weights = self.conv.weight.split(self.channels, dim=1)
        first, *rest = (F.conv2d(level, w) for level, w in zip(levels, weights, strict=True))
        assert self.conv.bias is not None
        z = first + self.conv.bias[:, None, None]
        for level in rest:
            z = z + F.interpolate(level, size, mode="bilinear")
        return z
