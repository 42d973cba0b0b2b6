"""Batches of images that wait."""

from __future__ import annotations

from concurrent.futures import wait
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pytest

from occ_lab.data.transforms import Seen
from tests.serving import parts

scorer = pytest.importorskip("occ_lab.serving.scorer")


class Held:
    """Makes a predictor wait before each batch, and counts its images."""

    def __init__(self, predictor: Any) -> None:
        self.go, self.begun = Event(), Event()
        self.sizes: list[int] = []
        self.score_pixels = predictor.score_pixels
        predictor.score_pixels = self

    def __call__(self, pixels: np.ndarray, sizes: Any) -> Any:
        self.begun.set()
        assert self.go.wait(60)
        self.sizes.append(len(pixels))
        if (pixels == 7).all(axis=(1, 2, 3)).any():
            raise ValueError("seven")
        return self.score_pixels(pixels, sizes)


def seen(value: int) -> Seen:
    return Seen(np.full((64, 64, 3), value, np.uint8), (64, 64))


def test_images_that_wait_are_one_batch_and_have_the_scores_of_single_ones() -> None:
    predictor = parts.predictor()
    single = [float(predictor.score(seen(value).pixels).image) for value in range(6)]
    held = Held(predictor)
    found = scorer.Scorer(predictor, batch_size=3, waiting=5)
    first = found.submit(Path("0"), seen(0))
    assert held.begun.wait(60)
    later = [found.submit(Path(str(value)), seen(value)) for value in range(1, 6)]
    with pytest.raises(scorer.BusyError):
        found.submit(Path("6"), seen(6))
    held.go.set()
    scores = [each.result(60).scored.score for each in (first, *later)]
    assert scores == pytest.approx(single, rel=1e-4)
    assert held.sizes == [1, 3, 2]
    found.close()
    with pytest.raises(scorer.StoppedError):
        found.submit(Path("7"), seen(7))


def test_an_image_that_fails_costs_itself_and_closing_scores_what_waits() -> None:
    predictor = parts.predictor()
    held = Held(predictor)
    found = scorer.Scorer(predictor, batch_size=8)
    outcomes = [found.submit(Path(str(value)), seen(value)) for value in (1, 7, 2)]
    held.go.set()
    found.close()
    assert not wait(outcomes, 0).not_done
    with pytest.raises(ValueError, match="seven"):
        outcomes[1].result()
    assert [str(outcomes[index].result().scored.path) for index in (0, 2)] == ["1", "2"]
    assert found.counters.scored == 2
