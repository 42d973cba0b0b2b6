"""The W&B run that belongs to a run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import occ_lab
from occ_lab.config.composition import composed
from occ_lab.config.errors import UserError
from occ_lab.config.train import perform_run
from occ_lab.data.items import Item
from occ_lab.metrics.calibration import Calibration
from occ_lab.reporting.predictions import COLUMNS, Predictions
from occ_lab.reporting.tracking import Limits, TaskLogger, divided, top_of, tracked
from tests.data.trees import mvtec_tree
from tests.inference.runs import STRUCTURED
from tests.reporting.offline import artifacts, history, media, only, run_of, summary

wandb = pytest.importorskip("wandb")
SECRET = "k" * 40


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    values = {"MODE": "offline", "SILENT": "true", "DATA_DIR": str(tmp_path), "API_KEY": SECRET}
    for name, value in values.items():
        monkeypatch.setenv(f"WANDB_{name}", value)


def predictions(**more: Any) -> Predictions:
    items = [
        Item(Path("good/1.png"), 0),
        Item(Path("cut/2.png"), 1),
        Item(Path("all.idx"), 1, None, 7),
    ]
    return Predictions("bolt", items, np.array([1.0, 3.0, 2.0]), np.array([0, 1, 1]), **more)


def test_nothing_is_sent_without_settings(tmp_path: Path) -> None:
    for settings, leads in ((None, True), ({"project": "p"}, False)):
        with tracked(settings, {}, tmp_path, leads, "norm") as tracking:
            assert wandb.run is None
            tracking.task_ended(predictions())
            tracking.run_ended({})


def test_what_was_decided() -> None:
    scores = torch.tensor([1.0, 2.5, 2.0, 1.5])
    found = predictions(calibration=Calibration.of(scores, scores), overkill=0.2)
    assert found.threshold == 2.5
    assert [row["index"] for row in found.rows(2)] == [2, 1]
    none, first, last = sorted(found.rows(9), key=lambda row: row["index"])
    assert (none["defect_type"], first["defect_type"], last["defect_type"]) == (None, "cut", None)
    assert [row["decision"] for row in (none, first, last)] == ["normal", "anomalous", "normal"]
    assert [row["p_value"] for row in (none, first, last)] == pytest.approx([1.0, 0.2, 0.6])
    assert found.caption(2) == "all.idx#7: score 2, threshold 2.5; anomalous, decided normal"
    without = predictions().rows(1)[0]
    assert (without["p_value"], without["decision"]) == (None, None)


def test_all_of_a_run_is_in_its_file(tmp_path: Path) -> None:
    mvtec_tree(tmp_path / "parts", "bolt")
    directory, own = tmp_path / "out", ("maps=", "logger=")
    asked = [
        *(each for each in STRUCTURED if not each.startswith(own)),
        f"dataset.root='{tmp_path}/parts'",
        "dataset.category=bolt",
        "backbone=resnet18",
        "backbone.model=test_resnet",
        "backbone.weights=random",
        "loss.solver=gradient",
        "calibration.folds=2",
        "calibration.overkill=0.3",
        "maps=2",
        "logger=wandb",
        "logger.wandb.rows=3",
    ]
    perform_run(composed("train", asked), directory)
    assert wandb.run is None
    file = only(directory)
    run = run_of(file)
    assert (run.display_name, run.run_group, run.job_type) == ("out", "out", "norm")
    config = {item.key: json.loads(item.value_json) for item in run.config.update}
    assert config["loss"]["norm"] == 1.0
    curves = {"loss", "image_auroc", "pixel_aupro", "roc_table", "precision_recall_table", "maps"}
    assert {f"bolt/{name}" for name in curves} <= set(history(file))
    means = json.loads((directory / "metrics.json").read_text())["mean"]
    assert {name: summary(file)[name] for name in means} == pytest.approx(means)
    tasks = json.loads(media(file, "table/tasks_*.json").read_text())
    assert [row[0] for row in tasks["data"]] == ["bolt"]
    assert (directory / "tasks/bolt/metrics.csv").is_file()

    threshold = json.loads((directory / "metrics.json").read_text())["tasks"]["bolt"]
    threshold = threshold["calibration"]["threshold"]
    maps = history(file)["bolt/maps"]
    assert maps["count"] == 2
    assert all(f", threshold {threshold:.4g}; " in each for each in maps["captions"])

    sent = artifacts(file)
    table = json.loads(sent["run-predictions"]["predictions.table.json"].read_text())
    assert table["columns"] == [*COLUMNS, "heatmap"]
    rows = [dict(zip(table["columns"], row, strict=True)) for row in table["data"]]
    assert [bool(row["heatmap"]) for row in rows] == [True, True, False]
    for row in rows:
        assert row["task"] == "bolt"
        assert (row["decision"] == "anomalous") == (row["score"] > threshold)
        assert (row["p_value"] <= 0.3) == (row["score"] > threshold)
        assert row["defect_type"] == (
            Path(row["path"]).parent.name if row["label"] == "anomalous" else None
        )
        assert not row["heatmap"] or row["heatmap"]["path"] in sent["run-predictions"]

    assert set(sent["metrics"]) == {"metrics.json", "scores.csv"}
    again = tmp_path / "again"  # as Artifact.download would lay it
    for name, path in sent["model"].items():
        (again / name).parent.mkdir(parents=True, exist_ok=True)
        (again / name).write_bytes(path.read_bytes())
    loaded = occ_lab.load(again)
    assert loaded.calibration is not None
    assert loaded.calibration.threshold(0.3) == pytest.approx(threshold)
    for path in directory.rglob("*"):
        assert not path.is_file() or SECRET.encode() not in path.read_bytes()


def test_jobs_of_a_sweep_are_runs_of_one_group(tmp_path: Path) -> None:
    (tmp_path / "multirun.yaml").touch()
    found = []
    for job in ("0", "1"):
        directory = tmp_path / job
        (directory / ".hydra").mkdir(parents=True)
        settings = {"project": "p", "tags": ["a"]}
        with tracked(settings, {"seed": 3}, directory, True, "norm") as tracking:
            run = wandb.run
            assert tracking.wandb is run
            assert (run.project, run.tags) == ("p", ("a",))
            assert (run.group, run.name) == (tmp_path.name, f"{tmp_path.name}-{job}")
            assert run.config["seed"] == 3
            for task in ("bolt", "nut"):
                logger = TaskLogger(prefix=task, project="p", rows=5)
                logger.log_metrics({"loss": 1.0}, step=0)
                assert logger.experiment is run
            found.append(run.id)
        assert wandb.run is None
        assert run_of(only(directory)).run_group == tmp_path.name
    assert len(set(found)) == 2


def test_parts_of_a_command_share_its_group(tmp_path: Path) -> None:
    part = tmp_path / "DATE" / "methods" / "norm"
    assert top_of(part) == part
    (tmp_path / "DATE" / ".hydra").mkdir(parents=True)
    assert top_of(part) == tmp_path / "DATE"
    (tmp_path / "multirun.yaml").touch()
    assert top_of(part) == tmp_path


def test_limits() -> None:
    limits, arguments = divided({"rows": 0, "project": "p", "checkpoints_mb": 1.5})
    assert (limits, arguments) == (Limits(0, 1.5), {"project": "p"})
    cfg = composed("train", ["logger=wandb", "logger.wandb.rows=-1"])
    with pytest.raises(UserError, match=r"logger\.wandb.*rows must be an integer and >= 0, got -1"):
        perform_run(cfg, Path("unused"))


def test_large_checkpoints_stay(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "tasks/bolt/checkpoints").mkdir(parents=True)
    (tmp_path / "tasks/bolt/checkpoints/last.ckpt").write_bytes(bytes(20_000))
    (tmp_path / "metrics.json").write_text("{}")
    settings = {"project": "p", "rows": 0, "checkpoints_mb": 0.01}
    with tracked(settings, {}, tmp_path, True, "norm") as tracking:
        tracking.task_ended(predictions())
        tracking.run_ended({})
    assert "logger.wandb.checkpoints_mb=1 sends them" in caplog.text
    sent = artifacts(only(tmp_path))
    assert "metrics" in sent
    assert "model" not in sent
    assert "predictions" not in history(only(tmp_path))
