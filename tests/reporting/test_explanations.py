"""Pictures of attributions: what is on them, and in which colours."""

from __future__ import annotations

import numpy as np
import pytest

from occ_lab.reporting.explanations import coloured, explanation
from occ_lab.reporting.pictures import CAPTION, GAP, PANEL, Subject


def test_red_raises_blue_lowers_and_zero_has_no_colour() -> None:
    values = np.array([[1.0, 0.0], [-1.0, 0.5]])
    picture = coloured(values, np.full((2, 2, 3), 90, np.uint8)).astype(int)
    red, green, blue = np.moveaxis(picture, -1, 0)
    assert red[0, 0] > blue[0, 0] + 50
    assert blue[1, 0] > red[1, 0] + 50
    assert max(red[0, 1], green[0, 1], blue[0, 1]) - min(picture[0, 1]) <= 2
    assert red[1, 1] - blue[1, 1] > 20
    assert green[1, 1] > green[0, 0]  # paler


def test_without_any_attribution_there_is_no_colour() -> None:
    picture = coloured(np.zeros((4, 4)), np.zeros((4, 4, 3), np.uint8))
    assert np.ptp(picture) <= 2


@pytest.mark.parametrize("masked", [False, True])
def test_three_panels_the_last_with_the_ground_truth(masked: bool) -> None:
    mask = np.zeros((32, 32), bool)
    mask[8:16, 8:16] = True
    image = np.full((32, 32, 3), 90, np.uint8)
    shown = Subject(image, mask if masked else None, "1. a/b.png (defect)", "001_defect_a_b.png")
    picture = explanation(shown, image + 40, np.zeros((32, 32)), "caption")
    assert picture.size == (3 * (PANEL + GAP) - GAP, PANEL + CAPTION)
    pixels = np.asarray(picture)[CAPTION:]
    assert (pixels[:, :PANEL] == 90).all()
    assert (pixels[:, PANEL + GAP : 2 * PANEL + GAP] == 130).all()
    assert (np.ptp(pixels[:, -PANEL:].astype(int), axis=2).max() > 100) == masked
