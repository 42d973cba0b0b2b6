"""The two-input ensemble: scales, frames, averages."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from occ_lab.postprocessing.ensemble import View, ensemble, interpolated, standardized

CROPPED = View(256, 224)
RESIZED = View(224, 224)


def ramp(view: View, side: int) -> torch.Tensor:
    """Maps that hold the picture's own coordinates, 0..1, at each cell's centre: two of them."""
    start = (view.resize - view.crop) / 2
    at = [(start + (cell + 0.5) * view.crop / side) / view.resize for cell in range(side)]
    positions = torch.tensor(at, dtype=torch.float64)
    return torch.stack(
        [positions[:, None].expand(side, side), positions[None, :].expand(side, side)]
    )


def test_a_view_on_its_own_frame_stays_as_it_is() -> None:
    maps = torch.rand(3, 7, 7, dtype=torch.float64)
    torch.testing.assert_close(interpolated(maps, CROPPED, CROPPED, (7, 7)), maps)


def test_the_cropped_view_lies_in_the_middle_of_the_resized_one() -> None:
    # Pixels 16..240 of 256 are 14..210 of 224: with one cell a pixel, a rim of 14 is not seen.
    placed = interpolated(torch.ones(1, 224, 224), CROPPED, RESIZED, (224, 224))[0]
    seen = torch.zeros(224, 224, dtype=torch.bool)
    seen[14:210, 14:210] = True
    assert torch.equal(~placed.isnan(), seen)
    assert torch.equal(placed[seen], torch.ones(196 * 196))


@settings(deadline=None, max_examples=50)
@given(
    resize=st.integers(40, 300),
    cut=st.integers(0, 30),
    side=st.integers(2, 60),
    target=st.integers(2, 60),
)
def test_places_in_the_picture_are_kept(resize: int, cut: int, side: int, target: int) -> None:
    view = View(resize, resize - 2 * (cut // 2))  # an even cut, so that the centre is exact
    placed = interpolated(ramp(view, side), view, RESIZED, (target, target))
    expected = ramp(RESIZED, target)
    difference = (placed - expected).abs()
    # Exact between cell centres; the outer half of an outer cell has that cell's value.
    half_a_cell = 0.5 * view.crop / side / view.resize
    assert difference.nan_to_num().max() <= half_a_cell + 1e-9
    low, high = ramp(view, side)[0, [0, -1], 0]
    inside = ((expected >= low) & (expected <= high)).all(dim=0)
    assert difference[:, inside].nan_to_num().max() <= 1e-9 if inside.any() else True
    assert not placed[:, inside].isnan().any()


def test_a_smaller_frame_than_the_view_cuts_it() -> None:
    placed = interpolated(ramp(RESIZED, 112), RESIZED, CROPPED, (28, 28))
    torch.testing.assert_close(placed, ramp(CROPPED, 28), rtol=0, atol=1e-12)


def test_scores_are_in_standard_deviations_of_the_training_set() -> None:
    training = torch.tensor([[1.0, 3.0], [5.0, 7.0]])
    ours = standardized(training, training)
    values = np.array([1.0, 3, 5, 7])
    expected = (values - values.mean()) / values.std(ddof=1)
    torch.testing.assert_close(ours.flatten().double(), torch.from_numpy(expected))


@pytest.mark.parametrize(("factor", "offset"), [(10.0, 0.0), (0.01, 5.0)])
def test_units_of_a_view_do_not_count(factor: float, offset: float) -> None:
    generator = torch.Generator().manual_seed(0)
    maps = [torch.rand(4, 8, 8, generator=generator).double() for _ in range(2)]
    training = [torch.rand(6, 8, 8, generator=generator).double() for _ in range(2)]
    views = [CROPPED, RESIZED]
    before = ensemble(maps, training, views, RESIZED)
    maps[0], training[0] = (part * factor + offset for part in (maps[0], training[0]))
    torch.testing.assert_close(ensemble(maps, training, views, RESIZED), before)


def test_ensemble_averages_where_both_see_and_takes_the_one_elsewhere() -> None:
    training = [torch.tensor([-1.0, 0.0, 1.0])] * 2  # mean 0, deviation 1
    maps = [torch.full((1, 56, 56), 3.0), torch.full((1, 56, 56), 1.0)]
    joined = ensemble(maps, training, [CROPPED, RESIZED], RESIZED)[0]
    # 14 pixels of 224 are 3.5 of 56 cells; the cell that is half seen counts by its centre.
    expected = torch.full((56, 56), 1.0)
    expected[4:52, 4:52] = 2.0
    middle = torch.arange(56) + 0.5
    seen = (middle >= 3.5) & (middle <= 52.5)
    expected[seen[:, None] & seen[None, :]] = 2.0
    torch.testing.assert_close(joined, expected)


def test_a_crop_larger_than_its_image_is_refused() -> None:
    with pytest.raises(ValueError, match="^crop must be "):
        View(224, 256)
