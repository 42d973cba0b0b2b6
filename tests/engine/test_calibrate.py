"""The choice of normal images for a threshold."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest

from occ_lab.config.composition import composed
from occ_lab.config.errors import UserError, user_messages
from occ_lab.config.job import calibration_plan
from occ_lab.engine.calibrate import CalibrationPlan


def test_what_is_held_out() -> None:
    assert CalibrationPlan().held_out(100) == []
    (part,) = CalibrationPlan(share=0.5, overkill=0.05).held_out(100)
    assert len(set(part)) == 50
    folds = CalibrationPlan(folds=3, overkill=0.05).held_out(100)
    assert sorted(index for fold in folds for index in fold) == list(range(100))
    assert {len(fold) for fold in folds} == {33, 34}


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["share=1.0"], "calibration.share must be"),
        (["folds=1"], "calibration.*folds of at least 2"),
        (["folds=2", "share=0.1"], "calibration: set share"),
        (["overkill=0"], "calibration.overkill must be"),
    ],
)
def test_bad_settings_are_reported(overrides: list[str], said: str) -> None:
    cfg = composed("train", [f"calibration.{each}" for each in overrides])
    with pytest.raises(UserError, match=said), user_messages():
        calibration_plan(cfg)


@pytest.mark.parametrize("images", [1, 2, 3, 20, 48, 60, 98, 99, 100, 150, 200, 1000])
@pytest.mark.parametrize("asked", [{"share": 0.1}, {"folds": 5}, {}])
def test_the_advice_works(asked: dict[str, Any], images: int) -> None:
    plan = CalibrationPlan(**asked, overkill=0.01).settled(images, own=True)
    try:
        plan.held_out(images)
    except ValueError as error:
        said = str(error)
    else:
        return
    names = re.findall(r"(share|folds)=([\d.]+)", said.partition("of " + str(images))[2])
    rate = re.search(r"a rate of ([\d.]+)", said)
    overkill = float(rate[1]) if rate else 0.01
    for name, value in names:
        better = CalibrationPlan(**{name: (float if name == "share" else int)(value)}, seed=1)
        assert replace(better, overkill=overkill).held_out(images)
    assert names or images < 3 or "too few" in said


def test_images_of_ones_own_are_calibrated_without_being_asked_to() -> None:
    plan = CalibrationPlan()
    assert plan.settled(60, own=False).held_out(60) == []
    settled = plan.settled(60, own=True)
    assert len(settled.held_out(60)) == settled.folds == 5
    assert settled.overkill == 1 / 61
    assert plan.settled(500, own=True).overkill == 0.01
    assert len(plan.settled(3, own=True).held_out(3)) == 3
    assert plan.settled(1, own=True).held_out(1) == []
    assert len(CalibrationPlan(share=0.5).settled(60, own=True).held_out(60)) == 1
    assert CalibrationPlan(folds=0).settled(60, own=True).held_out(60) == []
    with pytest.raises(ValueError, match=r"0.01 needs at least 99 .* rate of 0.017 or higher"):
        CalibrationPlan(overkill=0.01).settled(60, own=True).held_out(60)


def test_the_smallest_rate_is_taken_where_none_is_given() -> None:
    settled = CalibrationPlan(share=0.5).settled(60, own=False)
    (part,) = settled.held_out(60)
    assert len(part) == 30
    assert settled.overkill == 1 / 31
