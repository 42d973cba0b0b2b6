"""The CoordConv projector equals the plain form: join, append coordinates, convolve."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from occ_lab.projectors import CoordConv1x1
from occ_lab.utils.errors import InputError


def coordinate(index: int, side: int) -> float:
    return 2 * index / (side - 1) - 1 if side > 1 else -1.0


def plain(projector: CoordConv1x1, levels: list[torch.Tensor]) -> torch.Tensor:
    batch, _, height, width = levels[0].shape
    joined = [F.interpolate(level, (height, width), mode="bilinear") for level in levels]
    down = [[coordinate(row, height)] * width for row in range(height)]
    across = [[coordinate(column, width) for column in range(width)]] * height
    places = torch.tensor([down, across], dtype=torch.float64).expand(batch, 2, height, width)
    weight = torch.cat([projector.conv.weight[:, :, 0, 0], projector.coordinates.weight], dim=1)
    return F.conv2d(
        torch.cat([*joined, places], dim=1), weight[:, :, None, None], projector.conv.bias
    )


@settings(deadline=None, max_examples=25)
@given(
    channels=st.lists(st.integers(1, 6), min_size=1, max_size=3),
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    seed=st.integers(0, 1000),
)
def test_equals_the_plain_form(channels: list[int], height: int, width: int, seed: int) -> None:
    torch.manual_seed(seed)
    levels = [
        torch.randn(2, c, max(1, height >> place), max(1, width >> place), dtype=torch.float64)
        for place, c in enumerate(channels)
    ]
    projector = CoordConv1x1(channels).double()
    expected = plain(projector, levels)
    torch.testing.assert_close(projector(levels), expected, rtol=1e-10, atol=1e-12)


def test_gradients_equal_those_of_the_plain_form() -> None:
    torch.manual_seed(0)
    levels = [torch.randn(3, 5, 8, 6).double(), torch.randn(3, 7, 4, 3).double()]
    projector = CoordConv1x1([5, 7], compression=2).double()
    parameters = list(projector.parameters())
    ours = torch.autograd.grad(projector(levels).square().sum(), parameters)
    theirs = torch.autograd.grad(plain(projector, levels).square().sum(), parameters)
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


def test_initial_weights_are_those_of_one_convolution() -> None:
    torch.manual_seed(0)
    projector = CoordConv1x1([200, 198], compression=1)
    bound = 400**-0.5
    weight = projector.coordinates.weight.detach().abs()
    assert weight.max() <= bound
    assert float(weight.mean()) == pytest.approx(bound / 2, rel=0.1)


def test_keeps_the_interface_of_the_projector() -> None:
    projector = CoordConv1x1([8, 8], compression=4)
    levels = [torch.zeros(1, 8, 4, 4), torch.zeros(1, 8, 2, 2)]
    assert projector.channels == [8, 8]
    assert projector.out_channels == 4
    assert projector(levels).shape == (1, 4, 4, 4)
    with pytest.raises(ValueError, match="compression must be an integer and >= 1, got 0"):
        CoordConv1x1([8], compression=0)


def test_channels_last_levels_give_a_channels_last_map() -> None:
    levels = [torch.randn(2, 8, 4, 4).to(memory_format=torch.channels_last)]
    assert CoordConv1x1([8])(levels).is_contiguous(memory_format=torch.channels_last)


def test_a_closed_form_is_refused() -> None:
    with pytest.raises(InputError, match="projector=conv1x1"):
        CoordConv1x1([8]).assign(torch.zeros(4, 9))
