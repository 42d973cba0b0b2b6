"""One image after another through a detector."""

from __future__ import annotations

import pytest
from occ_lab.engine.passage import Passage

from occ_lab.backbones import TimmBackbone
from occ_lab.data.transforms import Preprocessing
from occ_lab.detector import Detector
from occ_lab.engine.online import Online
from occ_lab.objectives import Norm
from tests.data.trees import noise


def passage(refuse: float = 0.0, window: int = 200) -> Passage:
    detector = Detector(
        TimmBackbone("resnet10t", weights="random"),
        Norm(time=3, cell=None, bias="flow"),
        preprocessing=Preprocessing(64, 64),
    ).eval()
    return Passage(Online(detector), detector, refuse, window)


def test_the_first_image_has_no_score_and_costs_are_counted() -> None:
    made = passage()
    assert made.take(noise(0)) == {"score": "", "p_value": "", "learned": 1}
    row = made.take(noise(1))
    assert float(row["score"]) > 0
    assert row["p_value"] == "1"  # there is no earlier score to compare with
    assert made.counts == {"backbone": 2, "re-solve": 1, "score": 1, "update": 2}
    assert set(made.figures()["milliseconds"]) == set(made.counts)


def test_a_refused_image_changes_nothing_and_old_scores_leave_the_window() -> None:
    made = passage(refuse=0.4, window=2)
    for seed in range(4):
        made.take(noise(seed))
    made.scores = [0.0, 0.0]
    assert made.take(noise(300))["learned"] == 0
    assert (made.online.images, made.scores) == (4, [0.0, 0.0])
    made.refuse = 0.0
    row = made.take(noise(300))
    assert float(row["p_value"]) == pytest.approx(1 / 3, rel=1e-5)
    assert made.scores == [0.0, pytest.approx(float(row["score"]), rel=1e-6)]
    assert made.online.images == 5
