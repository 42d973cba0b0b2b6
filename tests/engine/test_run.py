"""A run that is stopped in the middle of a task."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

from occ_lab.backbones import TimmBackbone
from occ_lab.data.datasets.textures import Textures
from occ_lab.engine.job import Job, NoWatcher
from occ_lab.engine.run import run
from occ_lab.objectives import CFA, Norm, PaDiM
from occ_lab.reporting.record import RunRecord
from occ_lab.utils.errors import InputError

HEADER = {"dataset": "textures", "loss": "cfa", "backbone": "test_resnet", "seed": 0}
SIZES = {"train": 8, "normal": 4, "defective": 5, "resize": 64, "crop": 64}


class StoppedError(Exception):
    """Ends a run in the middle."""


class StopAt(Callback):
    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.current_epoch == self.epoch:
            raise StoppedError


class Watching(NoWatcher):
    def __init__(self, *callbacks: Callback) -> None:
        self.own = list(callbacks)

    def callbacks(self, task: str, folder: Path) -> list[Callback]:
        return self.own


def job(tmp_path: Path, **settings: Any) -> Job:
    bricks = Textures(root=tmp_path / "data", category="brick", **SIZES)
    common = {"max_epochs": 5, "batch_size": 4, "checkpoint_every": 2, "maps": 1}
    backbone = TimmBackbone("test_resnet", weights="random")
    return Job([bricks], backbone, **{"objective": CFA, **common, **settings})


def scores(directory: Path) -> str:
    return (directory / "scores.csv").read_text()


def check_kinds(figures: dict[str, Any]) -> None:
    """The image AUROC of the whole is the mean of those of equally many images of each kind."""
    kinds = figures["defects"]
    assert set(kinds) == {"hole", "scratch", "stain", "blur", "patch"}
    assert all(each["images"] == 1 for each in kinds.values())
    found = [each["image_auroc"] for each in kinds.values()]
    assert sum(found) / 5 == pytest.approx(figures["image_auroc"])
    for metric in ("pixel_auroc", "pixel_aupro"):
        values = [each[metric] for each in kinds.values()]
        assert min(values) <= figures[metric] <= max(values)
        assert len(set(values)) > 1


def test_a_stopped_training_goes_on_inside_its_task(tmp_path: Path) -> None:
    undisturbed = job(tmp_path)
    figures = run(undisturbed, RunRecord(tmp_path / "whole", HEADER, {}), NoWatcher())["brick"]
    check_kinds(figures)
    stopped = tmp_path / "stopped"
    with pytest.raises(StoppedError):
        run(job(tmp_path), RunRecord(stopped, HEADER, {}), Watching(StopAt(3)))
    assert [path.name for path in (stopped / "training" / "brick").iterdir()] == ["last.ckpt"]
    assert not (stopped / "metrics.json").exists()

    epochs: list[int] = []

    class Epochs(Callback):
        def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
            epochs.append(trainer.current_epoch)

    run(job(tmp_path), RunRecord(stopped, HEADER, {}, resume=True), Watching(Epochs()))
    assert epochs == [2, 3, 4]
    assert scores(stopped) == scores(tmp_path / "whole")
    assert not (stopped / "training").exists()


def test_the_oracle_changes_nothing(tmp_path: Path) -> None:
    for name, oracle in (("without", False), ("with", True)):
        each = job(tmp_path, oracle=oracle, max_epochs=2)
        run(each, RunRecord(tmp_path / name, HEADER, {}), NoWatcher())
    assert scores(tmp_path / "with") == scores(tmp_path / "without")
    figures = json.loads((tmp_path / "with" / "metrics.json").read_text())["tasks"]["brick"]
    best = figures["oracle_best_epoch"]["image_auroc"]
    assert best["epoch"] in (1, 2)
    assert best["value"] >= figures["image_auroc"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"objective": PaDiM, "oracle": True}, "learns in one pass"),
        ({"seed": -1}, "seed must be an integer and >= 0"),
        ({"validation": 1.0}, "validation must be"),
        ({"projector": lambda channels: 1 / 0}, "division"),
    ],
)
def test_what_cannot_work_is_found_before_any_work(
    settings: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises((ValueError, ZeroDivisionError), match=message):
        job(tmp_path, **settings).check()


def test_pretraining_needs_a_backbone_that_is_trained(tmp_path: Path) -> None:
    from occ_lab.engine.job import Pretraining

    asked = replace(job(tmp_path), pretraining=Pretraining(lambda backbone: None, 1))  # type: ignore[arg-type, return-value]
    with pytest.raises(InputError, match="test_resnet is frozen"):
        asked.check()


def test_norm_and_two_tasks_are_recorded_one_after_another(tmp_path: Path) -> None:
    both = Textures(root=tmp_path / "data", category=["brick", "grass"], **SIZES)
    asked = replace(job(tmp_path, objective=Norm, max_epochs=1), views=[both])
    found = run(asked, RunRecord(tmp_path / "run", HEADER, {}), NoWatcher())
    assert list(found) == ["brick", "grass"]
    summary = json.loads((tmp_path / "run" / "metrics.json").read_text())
    mean = (found["brick"]["image_auroc"] + found["grass"]["image_auroc"]) / 2
    assert summary["mean"]["image_auroc"] == pytest.approx(mean)
