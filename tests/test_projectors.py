"""Every projector equals its plain form: join the levels, append coordinates, convolve."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from occ_lab.features.levels import join
from occ_lab.projectors import Conv1x1, CoordConv1x1, Identity, Projector
from occ_lab.utils.errors import InputError
from occ_lab.utils.specs import made_of, spec_of


def coordinate(index: int, side: int) -> float:
    return 2 * index / (side - 1) - 1 if side > 1 else -1.0


def plain(projector: Conv1x1, levels: list[torch.Tensor]) -> torch.Tensor:
    batch, _, height, width = levels[0].shape
    joined = [F.interpolate(level, (height, width), mode="bilinear") for level in levels]
    weight = projector.conv.weight[:, :, 0, 0]
    if isinstance(projector, CoordConv1x1):
        down = [[coordinate(row, height)] * width for row in range(height)]
        across = [[coordinate(column, width) for column in range(width)]] * height
        grid = torch.tensor([down, across], dtype=levels[0].dtype)
        joined.append(grid.expand(batch, 2, height, width))
        weight = torch.cat([weight, projector.coordinates.weight], dim=1)
    return F.conv2d(torch.cat(joined, dim=1), weight[:, :, None, None], projector.conv.bias)


both = pytest.mark.parametrize("kind", [Conv1x1, CoordConv1x1])


@both
@settings(deadline=None, max_examples=25)
@given(
    channels=st.lists(st.integers(1, 6), min_size=1, max_size=3),
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    seed=st.integers(0, 1000),
)
def test_equals_the_plain_form(
    kind: type[Conv1x1], channels: list[int], height: int, width: int, seed: int
) -> None:
    torch.manual_seed(seed)
    levels = [
        torch.randn(2, c, max(1, height >> index), max(1, width >> index), dtype=torch.float64)
        for index, c in enumerate(channels)
    ]
    projector = kind(channels).double()
    expected = plain(projector, levels)
    torch.testing.assert_close(projector(levels), expected, rtol=1e-10, atol=1e-12)


@both
def test_gradients_equal_those_of_the_plain_form(kind: type[Conv1x1]) -> None:
    torch.manual_seed(0)
    levels = [torch.randn(3, 5, 8, 6).double(), torch.randn(3, 7, 4, 3).double()]
    projector = kind([5, 7], compression=2).double()
    parameters = list(projector.parameters())
    ours = torch.autograd.grad(projector(levels).square().sum(), parameters)
    theirs = torch.autograd.grad(plain(projector, levels).square().sum(), parameters)
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


@both
def test_compression_divides_the_channels(kind: type[Conv1x1]) -> None:
    projector = kind([8, 8], compression=4)
    assert projector.channels == [8, 8]
    assert projector.out_channels == 4
    assert projector([torch.zeros(1, 8, 4, 4), torch.zeros(1, 8, 2, 2)]).shape == (1, 4, 4, 4)
    for compression in (0, 1.5, 17):
        with pytest.raises(ValueError, match=r"^compression must be an integer and >= 1 and <= 16"):
            kind([8, 8], compression=compression)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", [Conv1x1, CoordConv1x1, Identity])
def test_a_projector_is_made_again_from_its_specification(kind: type[Projector]) -> None:
    levels = [torch.rand(2, 8, 4, 4), torch.rand(2, 8, 2, 2)]
    projector = kind([8, 8])
    if kind is Conv1x1:
        projector.assign(torch.rand(5, 17))
    again = made_of(spec_of(projector))
    again.load_state_dict(projector.state_dict())
    assert again.out_channels == projector.out_channels
    for each in (again, copy.deepcopy(projector)):
        assert torch.equal(each(levels), projector(levels))


def test_initial_weights_of_coordconv_are_those_of_one_convolution() -> None:
    torch.manual_seed(0)
    projector = CoordConv1x1([200, 198])
    bound = 400**-0.5
    weight = projector.coordinates.weight.detach().abs()
    assert weight.max() <= bound
    assert float(weight.mean()) == pytest.approx(bound / 2, rel=0.1)


def some_levels(images: int = 7) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    fine = 100 * torch.randn(images, 3, 8, 8, generator=generator)
    return [fine, 0.01 * torch.randn(images, 5, 4, 4, generator=generator) + 0.02]


@pytest.mark.parametrize("size", [1, 3, 7])
def test_levels_of_unit_rms_are_those_of_all_batches(size: int) -> None:
    levels = some_levels()
    torch.manual_seed(0)
    projector = CoordConv1x1([3, 5], unit_rms=True)
    assert projector.needs_setup
    projector.setup(zip(*(level.split(size) for level in levels), strict=True))
    scaled = [level / level.double().square().mean().sqrt().float() for level in levels]
    torch.testing.assert_close(projector(levels), plain(projector, scaled), rtol=1e-4, atol=1e-5)
    again = made_of(spec_of(projector))
    again.load_state_dict(projector.state_dict())
    assert torch.equal(again(levels), projector(levels))


def test_a_scale_folds_into_the_convolution() -> None:
    levels = some_levels()
    projector = CoordConv1x1([3, 5], unit_rms=True)
    projector.setup([levels])
    folded = CoordConv1x1([3, 5])
    state = projector.state_dict()
    scale = state.pop("scale").repeat_interleave(torch.tensor([3, 5]))
    folded.load_state_dict({**state, "conv.weight": state["conv.weight"] * scale[:, None, None]})
    torch.testing.assert_close(projector(levels), folded(levels), rtol=1e-4, atol=1e-5)


def test_a_level_of_zeros_keeps_its_scale() -> None:
    projector = CoordConv1x1([3, 5], unit_rms=True)
    fine, coarse = some_levels()
    projector.setup([[fine, 0 * coarse]])
    assert projector.scale[1] == 1
    with pytest.raises(InputError, match="no images"):
        projector.setup([])


def test_levels_stay_as_they_are_by_default() -> None:
    projector = CoordConv1x1([3, 5])
    projector.setup([some_levels()])
    assert not projector.needs_setup
    assert "scale" not in projector.state_dict()


def test_channels_last_levels_give_a_channels_last_map() -> None:
    levels = [torch.randn(2, 8, 4, 4).to(memory_format=torch.channels_last)]
    assert CoordConv1x1([8])(levels).is_contiguous(memory_format=torch.channels_last)


def test_identity_joins_the_levels() -> None:
    levels = [torch.rand(2, 3, 4, 4), torch.rand(2, 5, 2, 2)]
    identity = Identity([3, 5])
    assert identity.out_channels == 8
    assert torch.equal(identity(levels), join(levels))


@pytest.mark.parametrize("kind", [CoordConv1x1, Identity])
def test_a_closed_form_sets_a_plain_convolution_only(kind: type[Projector]) -> None:
    with pytest.raises(InputError, match=f"Conv1x1 projector, not of {kind.__name__}") as error:
        kind([8]).assign(torch.zeros(4, 9))
    assert error.value.part == "projector"


@pytest.mark.parametrize("normalize", [False, True])
def test_a_projector_without_bias_maps_zero_to_zero(normalize: bool) -> None:
    torch.manual_seed(0)
    plain = Conv1x1([3, 5], normalize=normalize, bias=False)
    levels = [torch.rand(2, 3, 4, 4), torch.rand(2, 5, 2, 2)]
    biased = Conv1x1([3, 5], normalize=normalize)
    assert biased.conv.bias is not None
    with torch.no_grad():
        biased.conv.weight.copy_(plain.conv.weight)
        expected = biased(levels) - biased.conv.bias[:, None, None]
    torch.testing.assert_close(plain(levels).detach(), expected)
    factor = torch.rand(6, 9)  # a closed form sets a bias in any case
    plain.assign(factor)
    again = Conv1x1([3, 5], normalize=normalize, bias=False)
    again.load_state_dict(plain.state_dict())
    torch.testing.assert_close(again(levels), plain(levels))


@pytest.mark.parametrize("projector", [Conv1x1, CoordConv1x1])
def test_channels_are_expanded_then_compressed(projector: type[Conv1x1]) -> None:
    made = projector([3, 5], compression=4, expansion=2)
    assert made.out_channels == 4
    assert made([torch.rand(1, 3, 4, 4), torch.rand(1, 5, 2, 2)]).shape == (1, 4, 4, 4)
    assert projector([3, 5], compression=16, expansion=2).out_channels == 1
    for wrong in ({"compression": 17, "expansion": 2}, {"expansion": 0}):
        with pytest.raises(ValueError, match=r"^(compression|expansion) must be "):
            projector([3, 5], **wrong)  # type: ignore[arg-type]
