"""Batches of images that wait."""

from __future__ import annotations

from concurrent.futures import wait
from pathlib import Path

import numpy as np
import pytest

from occ_lab.data.transforms import Seen
from tests.serving.parts import Held, predictor

scorer = pytest.importorskip("occ_lab.serving.scorer")


def seen(value: int) -> Seen:
    return Seen(np.full((64, 64, 3), value, np.uint8), (64, 64))


def test_images_that_wait_are_one_batch_and_have_the_scores_of_single_ones() -> None:
    judge = predictor()
    single = [float(judge.score(seen(value).pixels).image) for value in range(1, 7)]
    held = Held(judge)
    found = scorer.Scorer(judge, batch_size=3, waiting=5)
    first = found.submit(Path("1"), seen(1))
    assert held.begun.wait(60)
    later = [found.submit(Path(str(value)), seen(value)) for value in range(2, 7)]
    with pytest.raises(scorer.BusyError):
        found.submit(Path("7"), seen(7))
    held.go.set()
    scores = [each.result(60).scored.score for each in (first, *later)]
    assert scores == pytest.approx(single, rel=1e-4)
    assert held.sizes == [1, 3, 2]
    found.close()
    with pytest.raises(scorer.StoppedError):
        found.submit(Path("7"), seen(7))


def test_an_image_that_fails_costs_itself_and_closing_scores_what_waits() -> None:
    judge = predictor()
    held = Held(judge)
    found = scorer.Scorer(judge, batch_size=8)
    outcomes = [found.submit(Path(str(value)), seen(value)) for value in (1, 0, 2)]
    held.go.set()
    found.close()
    assert not wait(outcomes, 0).not_done
    with pytest.raises(ValueError, match="black"):
        outcomes[1].result()
    assert [str(outcomes[index].result().scored.path) for index in (0, 2)] == ["1", "2"]
    assert found.counters.scored == 2
