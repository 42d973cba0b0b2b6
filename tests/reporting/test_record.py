"""The run directory: whole tasks only, with the metrics that the design lists."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from occ_lab.reporting.record import RunRecord, differences, mean_metrics, to_csv, to_json
from occ_lab.utils.errors import InputError

SETTINGS = {"resume": False, "seed": 0, "dataset": {"category": "all", "crop": 8}}
HEADER = {"dataset": "d", "loss": "l", "backbone": "b", "seed": 0, "version": "1"}


def finish(record: RunRecord, name: str, **figures: float) -> None:
    with record.task(name) as folder:
        (folder / "metrics.json").write_text(to_json(figures))
        (folder / "scores.csv").write_text(to_csv([{"path": name, "label": 1, "score": 0.5}]))


def test_summary_grows_by_whole_tasks(tmp_path: Path) -> None:
    record = RunRecord(tmp_path, HEADER, SETTINGS)
    finish(record, "nut", image_auroc=0.5, pixel_auroc=0.9)
    finish(record, "bolt", image_auroc=0.7)
    summary = json.loads((tmp_path / "metrics.json").read_text())
    assert {key: summary[key] for key in HEADER} == HEADER
    assert list(summary["tasks"]) == ["bolt", "nut"]
    assert summary["mean"] == {"image_auroc": pytest.approx(0.6), "pixel_auroc": 0.9}
    lines = (tmp_path / "scores.csv").read_text().splitlines()
    assert lines == ["path,label,score,task", "bolt,1,0.5,bolt", "nut,1,0.5,nut"]


def test_a_failed_task_leaves_nothing(tmp_path: Path) -> None:
    record = RunRecord(tmp_path, HEADER, SETTINGS)
    finish(record, "bolt", image_auroc=0.7)
    before = (tmp_path / "metrics.json").read_text()

    def fail() -> None:
        with record.task("nut") as folder:
            (folder / "half").touch()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert list(record.finished) == ["bolt"]
    assert (tmp_path / "metrics.json").read_text() == before
    assert [path.name for path in (tmp_path / "tasks").iterdir()] == ["bolt"]


def test_earlier_results_are_kept_only_on_request(tmp_path: Path) -> None:
    finish(RunRecord(tmp_path, HEADER, SETTINGS), "bolt", image_auroc=0.7)
    with pytest.raises(InputError, match="resume=true"):
        RunRecord(tmp_path, HEADER, SETTINGS)
    again = {**SETTINGS, "dataset": {"category": ["bolt"], "crop": 8}}
    assert list(RunRecord(tmp_path, HEADER, again, resume=True).finished) == ["bolt"]
    changed = {**SETTINGS, "seed": 1, "dataset": {"category": ["bolt"], "crop": 4}}
    with pytest.raises(InputError, match=r"another seed, dataset\.crop"):
        RunRecord(tmp_path, HEADER, changed, resume=True)
    limits = [{"scoring": {"aupro_limit": limit}} for limit in (0.3, 0.1)]
    assert differences(*limits) == ["scoring.aupro_limit"]


def test_the_scratch_of_a_killed_process_is_no_task(tmp_path: Path) -> None:
    record = RunRecord(tmp_path, HEADER, SETTINGS)
    finish(record, "bolt", image_auroc=0.7)
    shutil.copytree(tmp_path / "tasks" / "bolt", tmp_path / "tasks" / ".bolt.5co4f8rf")
    assert list(record.finished) == ["bolt"]
    RunRecord(tmp_path, HEADER, SETTINGS, resume=True)
    assert [path.name for path in (tmp_path / "tasks").iterdir()] == ["bolt"]


@pytest.mark.parametrize("name", ["metrics.json", "scores.csv"])
@pytest.mark.parametrize("how", ["lost", "cut", "older"])
def test_a_summary_that_is_not_as_it_should_be_is_written_again(
    tmp_path: Path, name: str, how: str
) -> None:
    record = RunRecord(tmp_path, HEADER, SETTINGS)
    finish(record, "bolt", image_auroc=0.7)
    older = (tmp_path / name).read_text()
    finish(record, "nut", image_auroc=0.5)
    right = {each: (tmp_path / each).read_text() for each in ("metrics.json", "scores.csv")}
    if how == "lost":
        (tmp_path / name).unlink()
    else:
        (tmp_path / name).write_text(older if how == "older" else right[name][:30])
    RunRecord(tmp_path, HEADER, SETTINGS, resume=True)
    assert {each: (tmp_path / each).read_text() for each in right} == right


def test_a_summary_that_is_as_it_should_be_stays(tmp_path: Path) -> None:
    finish(RunRecord(tmp_path, HEADER, SETTINGS), "bolt", image_auroc=float("nan"))
    before = (tmp_path / "metrics.json").read_text()
    RunRecord(tmp_path, {**HEADER, "version": "2"}, SETTINGS, resume=True)
    assert (tmp_path / "metrics.json").read_text() == before


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("metrics.json", '{"image_auroc": 0.'),
        ("metrics.json", "[]"),
        ("scores.csv", "path,label,score\nbolt,1"),
        ("scores.csv", None),
        ("checkpoints/last.ckpt", ""),
    ],
)
def test_a_damaged_task_is_named_and_made_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str, content: str | None
) -> None:
    record = RunRecord(tmp_path, HEADER, SETTINGS)
    finish(record, "bolt", image_auroc=0.7)
    finish(record, "nut", image_auroc=0.5)
    damaged = tmp_path / "tasks" / "bolt" / name
    damaged.unlink(missing_ok=True)
    if content is not None:
        damaged.parent.mkdir(exist_ok=True)
        damaged.write_text(content)
    again = RunRecord(tmp_path, HEADER, SETTINGS, resume=True)
    assert list(again.finished) == ["nut"]
    assert f"{tmp_path}/tasks/bolt: " in caplog.text
    assert name in caplog.text
    assert list(json.loads((tmp_path / "metrics.json").read_text())["tasks"]) == ["nut"]
    finish(again, "bolt", image_auroc=0.9)
    assert again.finished["bolt"] == {"image_auroc": 0.9}
    assert list(json.loads((tmp_path / "metrics.json").read_text())["tasks"]) == ["bolt", "nut"]


def test_a_training_that_was_stopped_is_not_taken_over_by_another_one(tmp_path: Path) -> None:
    record = RunRecord(tmp_path, HEADER, SETTINGS)
    state = record.state("bolt", "last")
    state.parent.mkdir(parents=True)
    state.touch()
    with pytest.raises(InputError, match="resume=true"):
        RunRecord(tmp_path, HEADER, SETTINGS)
    with pytest.raises(InputError, match="another seed"):
        RunRecord(tmp_path, HEADER, {**SETTINGS, "seed": 1}, resume=True)
    RunRecord(tmp_path, HEADER, SETTINGS, resume=True).drop_state("bolt")
    assert not (tmp_path / "training").exists()


@pytest.mark.parametrize("content", ["", "a: [", None])
def test_settings_that_cannot_be_read_are_named(tmp_path: Path, content: str | None) -> None:
    finish(RunRecord(tmp_path, HEADER, SETTINGS), "bolt", image_auroc=0.7)
    (tmp_path / "config.yaml").unlink()
    if content is not None:
        (tmp_path / "config.yaml").write_text(content)
    with pytest.raises(InputError, match=r"config\.yaml cannot be read"):
        RunRecord(tmp_path, HEADER, SETTINGS, resume=True)


def test_explanations_may_change_when_a_run_is_resumed(tmp_path: Path) -> None:
    finish(RunRecord(tmp_path, HEADER, SETTINGS), "bolt", image_auroc=0.7)
    explained = {**SETTINGS, "explain": {"count": 8, "steps": 32}}
    again = RunRecord(tmp_path, HEADER, explained, resume=True)
    assert list(again.finished) == ["bolt"]


def test_mean_takes_the_tasks_that_have_a_metric() -> None:
    assert mean_metrics({"a": {"image_ap": 0.2}, "b": {"image_ap": 0.4, "pixel_auroc": 1.0}}) == {
        "image_ap": pytest.approx(0.3),
        "pixel_auroc": 1.0,
    }
