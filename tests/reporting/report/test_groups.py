"""Groups over seeds, the settings that distinguish them, and the comparison with a baseline."""

from __future__ import annotations

import os
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import pytest

from occ_lab.reporting.report.compare import all_comparisons, choose_baselines, compare
from occ_lab.reporting.report.gather import gather
from occ_lab.reporting.report.groups import Grouped, grouped
from occ_lab.utils.errors import InputError


def found_in(folder: Path) -> Grouped:
    gathered = gather([folder])
    assert not gathered.left_out
    return grouped(gathered.runs)


@pytest.fixture
def write(tmp_path: Path) -> Any:
    from tests.reporting.example_runs import write_run

    return lambda name, **values: write_run(tmp_path / name, **values)


def test_runs_equal_but_for_the_seed_are_a_group(write: Any, tmp_path: Path) -> None:
    for seed in (0, 1, 2):
        write(f"a{seed}", seed=seed, norm=1)
        write(f"b{seed}", seed=seed, norm=4, shift=2.5)
    found = found_in(tmp_path)
    assert [group.label for group in found.groups] == ["norm loss.norm=4", "norm loss.norm=1"]
    assert found.keys == ["loss.norm"]
    first = found.groups[0]
    means = [
        fmean(first.tasks[task][seed].figures["image_auroc"] for task in ("brick", "grass"))
        for seed in (0, 1, 2)
    ]
    overall = first.overall("image_auroc")
    assert overall is not None
    assert overall.mean == pytest.approx(fmean(means))
    assert overall.deviation == pytest.approx(stdev(means))
    assert first.overall("nothing") is None
    assert (first.norm, first.method_but_norm) == (4.0, "norm")


def test_one_seed_has_no_deviation(write: Any, tmp_path: Path) -> None:
    write("a")
    overall = found_in(tmp_path).groups[0].overall("image_auroc")
    assert overall is not None
    assert overall.deviation is None


def test_one_and_one_point_zero_are_the_same_norm(write: Any, tmp_path: Path) -> None:
    write("a", seed=0, norm=1)
    write("b", seed=1, norm=1.0)
    assert len(found_in(tmp_path).groups) == 1


def test_values_by_which_losses_differ_are_not_told(write: Any, tmp_path: Path) -> None:
    write("a", loss="norm", norm=1, nu=0.1)
    write("b", loss="norm", norm=2, nu=0.1)
    write("c", loss="svdd", nu=0.5)
    labels = {group.label for group in found_in(tmp_path).groups}
    assert labels == {"norm loss.norm=1", "norm loss.norm=2", "svdd"}


def test_what_a_command_set_is_told(write: Any, tmp_path: Path) -> None:
    write("a", loss="norm", solver="closed_form", overrides=["loss.solver=closed_form", "maps=4"])
    write("c", loss="svdd", nu=0.5, overrides=["loss=svdd", "dataset.root=data"])
    found = found_in(tmp_path)
    assert {group.label for group in found.groups} == {"norm loss.solver=closed_form", "svdd"}
    assert found.keys == ["loss.solver"]


def test_a_seed_of_its_own_makes_a_group(write: Any, tmp_path: Path) -> None:
    write("a", seed=0, bank_seed=0)
    write("b", seed=0, bank_seed=1)
    labels = {group.label for group in found_in(tmp_path).groups}
    assert labels == {"norm loss.bank_seed=0", "norm loss.bank_seed=1"}


def test_categories_run_one_by_one_are_joined(write: Any, tmp_path: Path) -> None:
    for seed in (0, 1):
        for name in ("brick", "grass"):
            write(f"{name}{seed}", seed=seed, tasks=[name], category=name)
    (group,) = found_in(tmp_path).groups
    assert (group.seeds, group.shared, len(group.runs)) == ([0, 1], ["brick", "grass"], 4)


def test_means_are_over_the_tasks_that_all_seeds_have(write: Any, tmp_path: Path) -> None:
    write("a", seed=0, tasks=["brick", "grass"], category=["brick", "grass"])
    write("b", seed=1, tasks=["brick"], category="brick")
    (group,) = found_in(tmp_path).groups
    assert group.shared == ["brick"]
    assert group.overall("image_auroc") == group.over_seeds("image_auroc", "brick")


def test_the_newest_of_repeated_runs_counts(write: Any, tmp_path: Path) -> None:
    write("a", shift=0.5)
    os.utime(write("old", shift=3.0) / "metrics.json", (1, 1))
    (group,) = found_in(tmp_path).groups
    assert (len(group.runs), group.repeated) == (2, 1)
    newest = next(run for run in group.runs if run.directory.name == "a")
    assert group.tasks["brick"][0] is newest.tasks["brick"]


def test_datasets_are_ranked_apart_and_methods_share_a_name(write: Any, tmp_path: Path) -> None:
    for dataset in ("textures", "mvtec"):
        for norm in (1, 2):
            write(f"{dataset}{norm}", dataset=dataset, norm=norm, shift=norm)
    found = found_in(tmp_path)
    assert list(found.datasets) == ["mvtec", "textures"]
    methods = [[group.method for group in groups] for groups in found.datasets.values()]
    assert methods == [["norm loss.norm=2", "norm loss.norm=1"]] * 2
    assert found.groups[0].label == "mvtec: norm loss.norm=2"


def test_baselines(write: Any, tmp_path: Path) -> None:
    for norm in (1, 2, 10):
        write(f"run{norm}", norm=norm, shift=norm)
    write("other", dataset="mvtec")
    found = found_in(tmp_path)

    def chosen(text: str | None) -> str:
        return choose_baselines(found, text)["textures"][0].method

    assert chosen(None) == "norm loss.norm=10"
    assert chosen("textures: norm loss.norm=1") == "norm loss.norm=1"  # exact before a part
    assert chosen("norm=2") == "norm loss.norm=2"
    assert chosen("run2") == "norm loss.norm=2"
    assert chosen("loss.norm") == "norm loss.norm=10"  # of several the first-ranked
    assert "nothing here matches" in choose_baselines(found, "run2")["mvtec"][1]
    with pytest.raises(InputError, match=r"nothing matches '§'; the groups are"):
        choose_baselines(found, "§")


def test_comparison_is_over_common_tasks_and_images(write: Any, tmp_path: Path) -> None:
    both = ["brick", "grass"]
    write("a", norm=1, tasks=both, category=both, shift=3.0, images=60)
    write("b", norm=2, tasks=["brick"], category="brick", shift=0.2, images=40)
    write("c", norm=3, tasks=["bolt"], category="bolt")
    write("d", dataset="mvtec", norm=1)
    found = found_in(tmp_path)
    baselines = choose_baselines(found, "loss.norm=1")
    by_norm = {
        each.group.norm: each
        for each in all_comparisons(found, baselines, 300, 0)
        if each.group.dataset == "textures"
    }
    assert by_norm[1.0].difference is None
    assert (by_norm[2.0].tasks, by_norm[2.0].images) == (1, 40)
    assert by_norm[2.0].difference is not None
    assert by_norm[2.0].difference.high < 0
    assert by_norm[3.0].difference is None  # no task in common


def test_an_image_with_another_label_is_another_image(write: Any, tmp_path: Path) -> None:
    write("a", norm=1, tasks=["brick"], category="brick")
    other = write("b", norm=2, tasks=["brick"], category="brick")
    scores = other / "scores.csv"
    # Image 1 becomes normal and image 0 anomalous: two images fewer in common.
    lines = scores.read_text().splitlines()
    lines[1], lines[2] = (
        lines[2].replace("00001", "00000"),
        lines[1].replace("00000", "00001"),
    )
    scores.write_text("\n".join(lines) + "\n")
    found = found_in(tmp_path)
    first, second = found.groups
    assert compare(first, second, 50, 0).images == 38
