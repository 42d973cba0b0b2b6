"""The final table of a run, with published figures beside ours."""

from __future__ import annotations

import io
from typing import Any

from rich.console import Console

from occ_lab.reporting.tables.results import published_line, results_table

PUBLISHED = {
    "image_auroc": 0.993,
    "source": "a paper, table 1",
    "tasks": {"bolt": {"image_auroc": 1.0}, "nut": {"image_auroc": 0.973}},
}


def lines(tasks: dict[str, dict[str, Any]], published: dict[str, Any] | None) -> list[list[str]]:
    console = Console(width=160, record=True, file=io.StringIO())
    console.print(results_table("a run", tasks, published))
    return [line.split() for line in console.export_text().splitlines() if line.strip()]


def task(auroc: float) -> dict[str, Any]:
    return {"image_auroc": auroc, "n_train": 3, "n_test": 4, "seconds": {"fit": 1.0}}


def test_published_figures_stand_beside_ours() -> None:
    tasks = {"bolt": task(0.9), "nut": task(0.8), "own": task(0.7)}
    found = lines(tasks, PUBLISHED)
    assert found[1].count("published") == 1
    assert ["bolt", "3", "4", "90.0", "100.0", "1.0"] in found
    assert ["own", "3", "4", "70.0", "–", "1.0"] in found
    assert ["mean", "80.0", "99.3", "3.0"] in found


def test_the_mean_of_all_is_not_set_beside_one_task() -> None:
    alone = {"own": task(0.7)}
    assert "published" not in lines(alone, PUBLISHED)[1]
    assert "published" not in lines(alone, None)[1]
    assert ["nut", "3", "4", "80.0", "97.3", "1.0"] in lines({"nut": task(0.8)}, PUBLISHED)


def test_no_figure_is_no_line() -> None:
    assert published_line(PUBLISHED) == "published: image AUROC 99.3; a paper, table 1"
    assert published_line(None) == ""
    assert published_line({"image_auroc": None, "source": "a paper"}) == ""
