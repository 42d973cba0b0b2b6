"""Rows of the report for each kind of defect."""

from __future__ import annotations

import numpy as np
import pytest

from occ_lab.reporting.report.gather import Run, Task
from occ_lab.reporting.report.groups import Grouped, grouped
from occ_lab.reporting.report.kinds import kind_matrices, kinds_of


def task(seed: int, recorded: bool) -> Task:
    """Twenty good images, ten holes that score higher, ten scratches that do not."""
    rng = np.random.default_rng(seed)
    names = ["good"] * 20 + ["hole"] * 10 + ["scratch"] * 10
    labels = np.array([0] * 20 + [1] * 20)
    scores = rng.normal(size=40)
    scores[20:30] += 99
    figures = {"image_auroc": 0.75, "seconds": {}, "peak_memory_mb": None}
    if recorded:
        figures["defects"] = {"hole": {"images": 10, "image_auroc": 1.0, "pixel_auroc": 0.9}}
    paths = [f"bolt/test/{name}/{index:03}.png" for index, name in enumerate(names)]
    return Task("bolt", figures, paths, labels, scores, [])


def runs(*tasks: Task) -> Grouped:
    header = {"dataset": "d", "loss": "norm", "backbone": "b", "version": "1"}
    return grouped(
        [
            Run(None, {**header, "seed": seed}, {}, frozenset(), None, {"bolt": each}, 0.0)  # type: ignore[arg-type]
            for seed, each in enumerate(tasks)
        ]
    )


def test_kinds_are_set_against_all_normal_images() -> None:
    whole = task(0, recorded=True)
    kinds = kinds_of(whole)
    assert list(kinds) == ["hole", "scratch"]
    assert [len(each.labels) for each in kinds.values()] == [30, 30]
    assert kinds["hole"].metric("image_auroc") == 1.0
    assert kinds["hole"].metric("pixel_auroc") == 0.9
    assert kinds["scratch"].metric("pixel_auroc") is None
    one = Task("t", {}, whole.paths[:30], whole.labels[:30], whole.scores[:30], [])
    assert kinds_of(one) == {}  # the whole says the same


def test_a_row_for_each_kind_and_a_table_for_each_metric() -> None:
    matrices = kind_matrices(runs(task(0, True), task(1, True)))
    assert [matrix.title for matrix in matrices] == ["image AUROC", "pixel AUROC"]
    (hole, (cell,)), (scratch, _) = matrices[0].rows
    assert (hole, scratch) == ("bolt: hole (10)", "bolt: scratch (10)")
    assert cell is not None
    assert cell.text == "100.0 ± 0.0"
    assert [name for name, _ in matrices[1].rows] == ["bolt: hole (10)"]


@pytest.mark.parametrize("recorded", [False, True])
def test_older_runs_have_no_pixel_metrics_of_kinds(recorded: bool) -> None:
    assert len(kind_matrices(runs(task(0, recorded)))) == 1 + recorded
