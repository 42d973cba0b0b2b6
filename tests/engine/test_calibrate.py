"""Which normal images a threshold comes from."""

from __future__ import annotations

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


def test_too_few_images_are_reported_with_a_way_out() -> None:
    with pytest.raises(ValueError, match=r"needs at least 99 .* gives 10 of 100.*folds=5"):
        CalibrationPlan(share=0.1).held_out(100)
    with pytest.raises(ValueError, match="too few"):
        CalibrationPlan(folds=5, overkill=0.5).held_out(3)
