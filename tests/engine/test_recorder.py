"""The scores of a pass, as they are kept for the results."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from occ_lab.engine import recorder
from occ_lab.engine.recorder import KEPT, Scored
from occ_lab.postprocessing.prediction import Prediction


def scored(indices: list[int]) -> Scored:
    """Scores of images, two in a batch; everything about an image is its index."""
    kept = Scored()
    for start in range(0, len(indices), 2):
        index = torch.tensor(indices[start : start + 2])
        value = index.float()
        maps = value[:, None, None].expand(-1, 3, 5)
        kept.add(Prediction(value, None, index, None, index, maps, value, value))
    return kept


def check(kept: Scored, count: int) -> None:
    for name in KEPT:
        assert kept.values(name).tolist() == list(range(count))
    assert [float(each.mean()) for each in kept.maps()] == list(range(count))
    assert kept.values("patch_scores").shape == (count, 3, 5)


def test_few_tensors_hold_many_batches() -> None:
    kept = scored(torch.randperm(399, generator=torch.Generator().manual_seed(0)).tolist())
    check(kept, 399)
    for parts in (*kept._values.values(), kept._mapped):
        assert len(parts) <= 8  # of 200 batches


def test_processes_exchange_maps_a_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process answers what it would send; this one has fewer images."""
    sent: list[Any] = []

    def other(parts: list[Any]) -> list[Any]:
        sent.append(parts)
        return parts

    def exchange(answers: list[list[Any]]) -> Callable[[list[Any]], list[Any]]:
        coming = iter(answers)
        return lambda parts: [*parts, *next(coming)]

    monkeypatch.setattr(recorder, "AT_ONCE", 2)
    monkeypatch.setattr(recorder, "distributed", lambda: True)
    monkeypatch.setattr(recorder, "gathered_objects", other)
    scored([0, 2, 4, 6, 8, 10, 11]).gather()
    assert [len(maps) for ((_, maps),) in sent[2:]] == [2, 2, 2, 1]
    # This process takes as many turns as the other one, which has more images.
    monkeypatch.setattr(recorder, "gathered_objects", exchange(sent))
    kept = scored([1, 3, 5, 7, 9])
    kept.gather()
    check(kept, 12)
