"""The recorded pages show what was recorded: each is made from its results.json alone."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import pytest

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
