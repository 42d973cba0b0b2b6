"""The projector equals the plain form: join the levels, then convolve."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from occ_lab.features.levels import join
from occ_lab.projectors import Conv1x1, Identity
from occ_lab.utils.errors import InputError


def plain(projector: Conv1x1, levels: list[torch.Tensor]) -> torch.Tensor:
    size = levels[0].shape[-2:]
    joined = torch.cat([F.interpolate(level, size, mode="bilinear") for level in levels], dim=1)
    return F.conv2d(joined, projector.conv.weight, projector.conv.bias)


@settings(deadline=None, max_examples=25)
@given(
    channels=st.lists(st.integers(1, 6), min_size=1, max_size=3),
    side=st.integers(1, 9),
    seed=st.integers(0, 1000),
)
def test_equals_the_plain_form(channels: list[int], side: int, seed: int) -> None:
    torch.manual_seed(seed)
    sides = [max(1, side // 2**place) for place in range(len(channels))]
    levels = [
        torch.randn(2, c, s, s, dtype=torch.float64) for c, s in zip(channels, sides, strict=True)
    ]
    projector = Conv1x1(channels).double()
    expected = plain(projector, levels)
    torch.testing.assert_close(projector(levels), expected, rtol=1e-10, atol=1e-12)


def test_gradients_equal_those_of_the_plain_form() -> None:
    torch.manual_seed(0)
    levels = [torch.randn(3, 5, 8, 8), torch.randn(3, 7, 4, 4)]
    projector = Conv1x1([5, 7])
    ours = torch.autograd.grad(projector(levels).square().sum(), list(projector.parameters()))
    theirs = torch.autograd.grad(
        plain(projector, levels).square().sum(), list(projector.parameters())
    )
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_compression_divides_the_channels() -> None:
    projector = Conv1x1([8, 8], compression=4)
    assert projector.out_channels == 4
    assert projector([torch.zeros(1, 8, 4, 4), torch.zeros(1, 8, 2, 2)]).shape == (1, 4, 4, 4)
    with pytest.raises(ValueError, match="compression must be an integer and >= 1, got 0"):
        Conv1x1([8], compression=0)


def test_identity_joins_the_levels() -> None:
    levels = [torch.rand(2, 3, 4, 4), torch.rand(2, 5, 2, 2)]
    identity = Identity([3, 5])
    assert identity.out_channels == 8
    assert torch.equal(identity(levels), join(levels))
    with pytest.raises(InputError, match=r"take projector=conv1x1"):
        identity.assign(torch.eye(9))
