"""Tests over images and over tasks, as a report shows them."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from occ_lab.metrics.ranks import critical_difference
from occ_lab.metrics.significance import delong_p_value, holm
from occ_lab.reporting.report.compare import all_comparisons, choose_baselines, paired
from occ_lab.reporting.report.gather import gather
from occ_lab.reporting.report.groups import Grouped, grouped
from occ_lab.reporting.report.ranking import METHODS, WIDTH, most_in_common, ranking_over_tasks
from occ_lab.reporting.report.ranking import TASKS as TASKS_NEEDED
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


def test_a_method_of_another_dataset_is_left_out_and_named(tmp_path: Path) -> None:
    write_run(tmp_path / "other", loss="kde", dataset="mpdd", tasks=["x"])
    found = ranking_over_tasks(three_methods(tmp_path, *TASKS))
    assert found is not None
    assert {row.method for row in found.rows} == {"knn", "norm", "padim"}
    assert (found.tasks, found.left_out) == (5, ["kde"])


OWN = st.frozensets(st.sampled_from("abcdefg"), max_size=7)


@given(st.lists(OWN, max_size=6))
def test_all_ranked_methods_have_all_ranked_tasks(sets: list[frozenset[str]]) -> None:
    by_method = {str(i): {("d", t): 0.5 for t in own} for i, own in enumerate(sets)}
    methods, tasks = most_in_common(by_method)
    assert all(task in by_method[name] for name in methods for task in tasks)
    shared = set.intersection(*map(set, by_method.values())) if by_method else set()
    if len(sets) >= METHODS and len(shared) >= TASKS_NEEDED:
        assert len(methods) * len(tasks) >= len(sets) * len(shared)
    whole = [name for name, own in by_method.items() if len(own) == 7]
    if len(whole) >= METHODS:
        assert len(methods) * len(tasks) >= 7 * len(whole)
    if methods:
        assert len(methods) >= METHODS
        assert len(tasks) >= TASKS_NEEDED


def test_numbers_of_many_ranks_do_not_overlap(tmp_path: Path) -> None:
    for norm in range(1, 24):
        write_run(tmp_path / str(norm), norm=norm, tasks=TASKS, images=4)
    found = ranking_over_tasks(grouped(gather([tmp_path]).runs))
    assert found is not None
    assert [rank for rank, _ in found.ticks] == [1, 4, 7, 10, 13, 16, 19, 22]


def test_few_methods_or_tasks_are_not_ranked(tmp_path: Path) -> None:
    assert ranking_over_tasks(three_methods(tmp_path / "tasks", *TASKS[:4])) is None
    write_run(tmp_path / "methods" / "knn", loss="knn", tasks=TASKS)
    write_run(tmp_path / "methods" / "norm", tasks=TASKS)
    assert ranking_over_tasks(grouped(gather([tmp_path / "methods"]).runs)) is None
