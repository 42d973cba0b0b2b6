"""The default detector finds what it found when its figures were recorded."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from experiments.guard.study import HERE, SETS, least_allowed, measured

RECORDED = json.loads((HERE / "results.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", SETS)
def test_no_default_gets_worse(name: str, shared_data: Path, tmp_path: Path) -> None:
    found = measured(name, 0, shared_data, [f"cache.dir='{tmp_path}'"])
    assert set(found) == set(RECORDED[f"{name} | 0"])
    for figure, value in found.items():
        assert value >= least_allowed(RECORDED, name, figure), figure
