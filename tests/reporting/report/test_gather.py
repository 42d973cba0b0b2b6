"""Runs are found and read; other folders are listed with the reason."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from occ_lab.reporting.report.gather import gather
from occ_lab.utils.errors import InputError
from tests.reporting.example_runs import write_run


def reasons(*folders: Path) -> dict[str, str]:
    return {each.directory.name: each.reason for each in gather(folders).left_out}


def test_runs_at_any_depth_in_natural_order(tmp_path: Path) -> None:
    for name in ("10", "2", "sub/1"):
        write_run(tmp_path / name)
    found = gather([tmp_path])
    assert [str(run.directory.relative_to(tmp_path)) for run in found.runs] == ["2", "10", "sub/1"]
    assert found.left_out == []


def test_a_run_is_read_once(tmp_path: Path) -> None:
    run = write_run(tmp_path / "a" / "0")
    assert len(gather([run, tmp_path / "a", tmp_path]).runs) == 1


def test_what_a_run_says(tmp_path: Path) -> None:
    write_run(
        tmp_path, seed=3, norm=4, pictures=2, overrides=["loss=norm", "loss.norm=4", "seed=3"]
    )
    (run,) = gather([tmp_path]).runs
    assert (run.header["dataset"], run.seed, run.config["loss.norm"]) == ("textures", 3, 4)
    assert run.overrides == ["loss=norm", "loss.norm=4", "seed=3"]
    assert run.derived == {"loss.seed", "dataset.sample_seed"}
    task = run.tasks["brick"]
    assert task.paths[:2] == ["data/textures/brick/00000.png", "data/textures/brick/00001.png"]
    assert task.labels.tolist()[:2] == [0, 1]
    assert len(task.scores) == 40
    assert [path.name[:3] for path in task.pictures] == ["001", "002"]
    assert task.metric("pixel_auroc") == 0.95


def test_a_task_without_both_kinds_of_images_is_read(tmp_path: Path) -> None:
    write_run(tmp_path, tasks=["only"], images=1)
    (run,) = gather([tmp_path]).runs
    assert run.tasks["only"].metric("image_auroc") is None


def test_a_run_without_its_hydra_folder_has_no_command(tmp_path: Path) -> None:
    shutil.rmtree(write_run(tmp_path) / ".hydra")
    (run,) = gather([tmp_path]).runs
    assert run.overrides is None
    assert "loss.seed" in run.derived


def test_an_absent_directory_is_the_users_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none is not a directory"):
        gather([tmp_path / "none"])


def edit_metrics(change: Callable[[dict], object]) -> Callable[[Path], object]:
    def edit(run: Path) -> None:
        path = run / "metrics.json"
        content = json.loads(path.read_text())
        change(content)
        path.write_text(json.dumps(content))

    return edit


def edit_scores(change: Callable[[list[str]], list[str]]) -> Callable[[Path], object]:
    def edit(run: Path) -> None:
        path = run / "scores.csv"
        path.write_text("\n".join(change(path.read_text().splitlines())) + "\n")

    return edit


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "no result": (lambda run: (run / "metrics.json").unlink(), "no metrics.json"),
    "failed": (lambda run: (run / "error.txt").write_text("b: c\na\n"), "failed: b: c"),
    "study": (lambda run: (run / "norm_study.json").write_text("{}"), "norm study"),
    "comparison": (lambda run: (run / "compare.json").write_text("{}"), "is a comparison"),
    "cut off": (lambda run: (run / "metrics.json").write_text('{"tasks"'), "damaged"),
    "deep": (lambda run: (run / "metrics.json").write_text("[" * 100_000), "damaged"),
    "binary": (lambda run: (run / "metrics.json").write_bytes(b"\xff\xfe\x00"), "damaged"),
    "a list": (lambda run: (run / "metrics.json").write_text("[1]"), "has no tasks"),
    "foreign": (lambda run: (run / "metrics.json").write_text('{"acc": 1}'), "has no tasks"),
    "no tasks": (edit_metrics(lambda m: m["tasks"].clear()), "no finished task"),
    "no dataset": (edit_metrics(lambda m: m.pop("dataset")), "'dataset' is missing"),
    "odd seed": (edit_metrics(lambda m: m.update(seed="x")), "seed is 'x'"),
    "odd figure": (edit_metrics(lambda m: m["tasks"]["brick"].update(image_auroc="x")), "number"),
    "odd time": (edit_metrics(lambda m: m["tasks"]["brick"].update(seconds=3)), "damaged"),
    "no scores": (lambda run: (run / "scores.csv").unlink(), r"scores\.csv"),
    "half the scores": (edit_scores(lambda lines: lines[:11]), "different tasks"),
    "few scores": (edit_scores(lambda lines: lines[:-3]), "37 scores for 40"),
    "cut line": (edit_scores(lambda lines: [*lines[:-1], "data/x"]), "line 81 is cut off"),
    "odd columns": (edit_scores(lambda lines: ["a,b", *lines[1:]]), "columns"),
    "NaN": (edit_scores(lambda lines: [*lines[:-1], "p,1,nan,grass"]), "NaN"),
    "label 2": (edit_scores(lambda lines: [*lines[:-1], "p,2,1,grass"]), "label"),
    "twice": (edit_scores(lambda lines: [*lines[:-1], lines[-2]]), "twice"),
    "other scores": (edit_scores(lambda x: [*x[:-1], "p,1,-99,grass"]), "image AUROC"),
    "no settings": (lambda run: (run / "config.yaml").unlink(), "config.yaml"),
    "odd settings": (lambda run: (run / "config.yaml").write_text("a: [b"), "damaged"),
    "odd command": (lambda run: (run / ".hydra/overrides.yaml").write_text("{"), "damaged"),
    "begun": (lambda run: (run / "tasks/.gravel.x1").mkdir(), "unfinished: gravel missing"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_the_damage_is_named_and_the_others_are_read(tmp_path: Path, name: str) -> None:
    damage, expected = DAMAGES[name]
    write_run(tmp_path / "good")
    damage(write_run(tmp_path / "bad"))
    found = gather([tmp_path])
    assert [run.directory.name for run in found.runs] == ["good"]
    (left_out,) = found.left_out
    assert left_out.directory.name == "bad"
    assert re.search(expected, left_out.reason), left_out.reason
    assert "\n" not in left_out.reason


def test_a_task_cannot_lie_elsewhere(tmp_path: Path) -> None:
    def rename(metrics: dict) -> None:
        metrics["tasks"]["../x"] = metrics["tasks"].pop("brick")

    run = write_run(tmp_path / "run", tasks=["brick"])
    edit_metrics(rename)(run)
    edit_scores(lambda lines: [line.replace(",brick", ",../x") for line in lines])(run)
    assert "is not the name of a task" in reasons(tmp_path)["run"]


def test_unfinished_by_what_was_asked(tmp_path: Path) -> None:
    write_run(tmp_path / "part", tasks=["brick"], category=["brick", "grass"])
    write_run(tmp_path / "whole", tasks=["brick"], category="brick")
    assert reasons(tmp_path) == {"part": "unfinished: grass missing; resume=true completes it"}


def test_unfinished_by_what_others_have(tmp_path: Path) -> None:
    write_run(tmp_path / "part", tasks=["brick"])
    write_run(tmp_path / "whole")
    write_run(tmp_path / "one", tasks=["brick"], category="brick")
    write_run(tmp_path / "other", tasks=["bolt"], dataset="mvtec")
    assert list(reasons(tmp_path)) == ["part"]
    assert "grass" in reasons(tmp_path)["part"]


def test_other_folders_are_passed_over(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "a.png").touch()
    (tmp_path / ".cache" / "x").mkdir(parents=True)
    (tmp_path / ".cache" / "x" / "metrics.json").write_text("{}")
    assert gather([tmp_path]).left_out == []
