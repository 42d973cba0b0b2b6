"""The final table of a sweep."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from rich.console import Console

from occ_lab.reporting.tables.sweep import jobs_of, ranking, sweep_table


def job(folder: Path, overrides: list[str], auroc: float | None, error: str = "") -> None:
    (folder / ".hydra").mkdir(parents=True)
    (folder / ".hydra" / "overrides.yaml").write_text("".join(f"- {each}\n" for each in overrides))
    if auroc is not None:
        task = {"seconds": {"fit": 1.0, "test": 0.5}}
        found = {"mean": {"image_auroc": auroc}, "tasks": {"a": task, "b": task}}
        (folder / "metrics.json").write_text(json.dumps(found))
    if error:
        (folder / "error.txt").write_text(error)


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    for number, (norm, seed, auroc) in enumerate(
        [(1, 0, 0.8), (1, 1, 0.9), (4, 0, 0.95), (4, 1, None)]
    ):
        job(tmp_path / str(number), ["dataset=x", f"loss.norm={norm}", f"seed={seed}"], auroc)
    job(
        tmp_path / "10",
        ["dataset=x", "loss.norm=8", "seed=0"],
        0.5,
        "boom: why\n\nTrace:\n  x\nboom: why\n",
    )
    (tmp_path / "multirun.yaml").touch()
    return tmp_path


def test_jobs_are_read_by_number(sweep: Path) -> None:
    jobs = jobs_of(sweep)
    assert [each.name for each in jobs] == ["0", "1", "2", "3", "10"]
    assert jobs[0].label == "loss.norm=1 seed=0"
    assert jobs[0].group == "loss.norm=1"
    assert jobs[0].seconds == 3.0
    assert [each.problem for each in jobs] == ["", "", "", "has no results", "boom: why"]


def test_a_job_of_two_stages_has_a_row_for_each_density(tmp_path: Path) -> None:
    for number, seed in enumerate((0, 1)):
        folder = tmp_path / str(number)
        job(folder, ["representation=rotation", f"seed={seed}"], None)
        task = {"seconds": {"fit": 1.0}}
        runs = {
            name: {"mean": {"image_auroc": auroc + 0.1 * seed}, "tasks": {"a": task}}
            for name, auroc in (("kde_pooled", 0.6), ("gde_pooled", 0.7))
        }
        (folder / "two_stage.json").write_text(json.dumps({"densities": runs}))
        known = "published: {image_auroc: 0.9, density: gde_pooled}\n"
        (folder / "config.yaml").write_text(known)
    groups = ranking(jobs_of(tmp_path))
    assert [group[0].group for group in groups] == ["gde_pooled", "kde_pooled"]
    assert [[each.metrics["image_auroc"] for each in group] for group in groups] == [
        pytest.approx([0.7, 0.8]),
        pytest.approx([0.6, 0.7]),
    ]
    assert [bool(group[0].published) for group in groups] == [True, False]


def test_groups_are_ranked_with_their_spread(sweep: Path) -> None:
    for number in ("0", "1"):
        (sweep / number / "config.yaml").write_text("published: {image_auroc: 0.99}\n")
    groups = ranking(jobs_of(sweep))
    assert [group[0].group for group in groups] == ["loss.norm=4", "loss.norm=1"]
    console = Console(width=80, record=True)
    console.print(sweep_table(groups))
    rows = [line.split() for line in console.export_text().splitlines()]
    assert ["loss.norm=4", "1", "95.0", "–", "3.0"] in rows
    assert ["loss.norm=1", "2", "85.0", "±", "7.1", "99.0", "3.0"] in rows


def test_jobs_that_differ_in_nothing_but_the_seed_are_one_group(tmp_path: Path) -> None:
    for seed in (0, 1):
        job(tmp_path / str(seed), ["loss=norm", f"seed={seed}"], 0.5)
    (group,) = ranking(jobs_of(tmp_path))
    assert len(group) == 2
    assert group[0].group == ""
