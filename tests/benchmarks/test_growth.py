"""How time and memory grow: the measurement, its exponents and its page."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from multiprocessing.context import BaseContext
from pathlib import Path
from typing import Any

import pytest

from benchmarks.growth import __main__ as growth
from benchmarks.growth.axes import AXES, METHODS, Case
from benchmarks.growth.fits import exponent
from benchmarks.growth.made import MadeImages
from benchmarks.growth.page import report, row, within
from benchmarks.growth.points import pixels_of_maps, solved
from occ_lab.data.datamodule import AnomalyDataModule
from occ_lab.objectives.norm.objective import Norm

RECORD = Path(__file__).parents[2] / "experiments" / "growth"


def test_the_page_is_made_from_the_record() -> None:
    results = json.loads((RECORD / "results.json").read_text(encoding="utf-8"))
    assert report(results) == (RECORD / "README.md").read_text(encoding="utf-8")
    for axis, cases in AXES.items():
        assert set(results["points"][axis]) == set(cases)
    assert "100000" in results["points"]["images"]["fit and test, to 100,000"]
    assert (RECORD / "growth.png").stat().st_size < 1e6


def test_every_method_of_one_pass_is_measured() -> None:
    assert {f"fit, {name}" for name in METHODS} <= set(AXES["images"])


def test_an_exponent_has_an_error() -> None:
    found = exponent([1, 2, 4, 8], [9, 2, 8.5, 31])
    assert found.value == pytest.approx(2, abs=0.1)
    assert 0 < found.error < 0.1
    assert within(found, 2)
    assert not within(found, 1)


def test_a_case_that_grows_too_fast_is_named() -> None:
    points = {
        "10": {"seconds": 1.0, "peak_mb": 10.0},
        "20": {"seconds": 2.0, "peak_mb": 10.0},
        "40": {"seconds": 4.0, "peak_mb": 10.01},
        "80": {"seconds": 8.0, "peak_mb": 10.05},
    }
    case = Case(lambda size: {}, (10, 20, 40, 80), 1, 0, "")
    assert row(case, "", points)[-1] == "as it must, flat"
    points["80"] = {"seconds": 40.0, "peak_mb": 12.0}
    assert row(replace(case, time=0.5), "", points)[-1] == "**not as it must**, **not flat**"


def test_images_are_made_when_they_are_read(tmp_path: Path) -> None:
    data = AnomalyDataModule(MadeImages(tmp_path, 40, 4, side=32), batch_size=40)
    (train,) = data.train_dataloader()
    assert len({image.numpy().tobytes() for image in train["image"]}) == 40
    (test,) = data.test_dataloader()
    assert test["label"].tolist() == [0, 1, 0, 1]
    assert test["mask"].sum((1, 2)).tolist() == [0, 64, 0, 64]


def test_a_part_is_measured() -> None:
    for found in (solved(Norm, 12, 8), pixels_of_maps(16, side=32)):
        assert found["seconds"] > 0
        assert set(found) == {"seconds", "wall_seconds", "peak_mb", "mapped_mb"}


def test_points_that_are_recorded_are_not_measured_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured = []

    class Here(ThreadPoolExecutor):
        """Measures in this process; another one takes seconds to start."""

        def __init__(self, count: int, mp_context: BaseContext) -> None:
            super().__init__(count)

        def submit(self, work: Any, *about: Any) -> Any:  # type: ignore[override]
            measured.append(about)
            return super().submit(AXES[about[0]][about[1]].measure, about[2])

    monkeypatch.setattr(growth, "ProcessPoolExecutor", Here)
    known = {"seconds": 1.0, "wall_seconds": 1.0, "peak_mb": 1.0, "mapped_mb": 0.0}
    cases = {
        name: {str(size): known for size in case.sizes} for name, case in AXES["channels"].items()
    }
    del cases["neighbours"]["176"], cases["KDE"]["4096"]
    (tmp_path / "results.json").write_text(json.dumps({"points": {"channels": cases}}))
    growth.main(["--only", "channels", "--quick", "--out", str(tmp_path)])
    assert measured == [("channels", "neighbours", 176)]
    found = json.loads((tmp_path / "results.json").read_text())["points"]["channels"]
    assert set(found["neighbours"]["176"]) == set(known)
    assert found["neighbours"]["352"] == known
    page = (tmp_path / "README.md").read_text()
    assert all(f"| {name} |" in page for name in cases)
    assert (tmp_path / "growth.png").is_file()
