"""The recorded pages show what was recorded: each is made from its results.json alone."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from experiments.cfa_claims.study import greedy, shared
from occ_lab.objectives.cfa import distinct_nearest

EXPERIMENTS = Path(__file__).resolve().parents[1] / "experiments"
STUDIES = sorted(path.parent.name for path in EXPERIMENTS.glob("*/study.py"))


def undated(page: str) -> list[str]:
    return [line for line in page.splitlines() if not line.startswith("Recorded")]


@pytest.mark.parametrize("name", STUDIES)
def test_a_page_is_made_from_its_results(name: str) -> None:
    results = json.loads((EXPERIMENTS / name / "results.json").read_text(encoding="utf-8"))
    study = importlib.import_module(f"experiments.{name}.study")
    page = (EXPERIMENTS / name / "README.md").read_text(encoding="utf-8")
    assert undated(study.report(results)) == undated(page)


@given(centres=st.integers(1, 8), spare=st.integers(0, 5), seed=st.integers(0, 2**16))
def test_the_readings_of_algorithm_1_are_ordered_by_their_distances(
    centres: int, spare: int, seed: int
) -> None:
    drawn = np.random.default_rng(seed)
    bank, features = drawn.normal(size=(centres, 3)), drawn.normal(size=(centres + spare, 3))
    squared = ((bank[:, None] - features) ** 2).sum(axis=2)
    taken: list[int] = []
    for row in squared:
        taken.append(min(set(range(len(features))) - set(taken), key=row.__getitem__))
    given_tensors = torch.from_numpy(bank), torch.from_numpy(features)
    assert greedy(*given_tensors).tolist() == taken
    assert shared(*given_tensors).tolist() == squared.argmin(axis=1).tolist()
    sums = [
        squared[np.arange(centres), reading(*given_tensors).numpy()].sum()
        for reading in (shared, distinct_nearest, greedy)
    ]
    assert (np.diff(sums) > -1e-9).all()
