"""Tests over images and over tasks, as a report shows them."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from occ_lab.metrics.ranks import critical_difference
from occ_lab.metrics.significance import delong_p_value, holm
from occ_lab.reporting.report.compare import all_comparisons, choose_baselines, paired
from occ_lab.reporting.report.gather import gather
from occ_lab.reporting.report.groups import Grouped, grouped
from occ_lab.reporting.report.ranking import WIDTH, ranking_over_tasks
from tests.reporting.example_runs import write_run

TASKS = ("a", "b", "c", "d", "e")


def three_methods(folder: Path, *tasks: str) -> Grouped:
    for loss, shift in (("knn", 2.5), ("norm", 2.3), ("padim", 0.5)):
        write_run(folder / loss, loss=loss, shift=shift, tasks=tasks)
    return grouped(gather([folder]).runs)


def test_p_values_are_adjusted_for_all_groups_of_a_dataset(tmp_path: Path) -> None:
    found = three_methods(tmp_path, *TASKS)
    first, *others = all_comparisons(found, choose_baselines(found, None), 100, seed=0)
    assert math.isnan(first.p_value)
    raw = []
    for each in others:
        pairs = [
            paired(list(each.group.tasks[name].values()), list(first.group.tasks[name].values()))
            for name in TASKS
        ]
        raw.append(delong_p_value([pair for pair in pairs if pair is not None]))
    assert [each.p_value for each in others] == pytest.approx(holm(raw))
    assert others[-1].group.method == "padim"
    assert others[-1].p_value < 0.01


def test_bars_overlap_where_ranks_are_alike(tmp_path: Path) -> None:
    found = ranking_over_tasks(three_methods(tmp_path, *TASKS))
    assert found is not None
    assert (found.tasks, [row.method for row in found.rows][-1]) == (5, "padim")
    assert found.ranks.critical == pytest.approx(critical_difference(3, 5))
    for one in found.rows:
        assert 0 <= one.low <= one.x <= one.low + one.width <= WIDTH
        for other in found.rows:
            apart = one.low + one.width < other.low or other.low + other.width < one.low
            assert apart == (abs(one.rank - other.rank) > found.ranks.critical)


def test_few_methods_or_tasks_are_not_ranked(tmp_path: Path) -> None:
    assert ranking_over_tasks(three_methods(tmp_path / "tasks", *TASKS[:4])) is None
    write_run(tmp_path / "methods" / "knn", loss="knn", tasks=TASKS)
    write_run(tmp_path / "methods" / "norm", tasks=TASKS)
    assert ranking_over_tasks(grouped(gather([tmp_path / "methods"]).runs)) is None
