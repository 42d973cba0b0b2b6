"""Callbacks, loggers and the Trainer as the configuration names them."""

from __future__ import annotations

import csv
import logging
import warnings
from pathlib import Path

import pytest
from lightning.pytorch.callbacks import (
    EarlyStopping,
    LearningRateMonitor,
    ModelCheckpoint,
    RichProgressBar,
)
from lightning.pytorch.loggers import CSVLogger

from occ_lab.config.composition import composed
from occ_lab.config.errors import UserError
from occ_lab.config.trainer import (
    MonitorCheck,
    check_trainer,
    make_callbacks,
    make_loggers,
    make_trainer,
    wandb_settings,
)
from occ_lab.utils.quiet import quiet_lightning
from tests.commands import command
from tests.data.trees import mvtec_tree

MONITOR = "lightning.pytorch.callbacks.LearningRateMonitor"
SAVING = "lightning.pytorch.callbacks.ModelCheckpoint"


def test_the_groups_are_made_for_a_task(tmp_path: Path) -> None:
    cfg = composed("train", [])
    (bar,) = make_callbacks(cfg, "bolt", tmp_path)
    assert isinstance(bar, RichProgressBar)
    (logger,) = make_loggers(cfg, "bolt", tmp_path)
    assert isinstance(logger, CSVLogger)
    assert Path(logger.log_dir) == tmp_path
    nothing = composed("train", ["callbacks=none", "logger=none"])
    assert make_callbacks(nothing, "bolt", tmp_path) == []
    assert make_loggers(nothing, "bolt", tmp_path) == []


def test_further_ones_are_added(tmp_path: Path) -> None:
    cfg = composed(
        "train",
        [
            f"+callbacks.rate._target_={MONITOR}",
            f"+trainer.callbacks=[{{_target_:{SAVING},dirpath:'${{task.folder}}/mine'}}]",
            "+logger.second._target_=lightning.pytorch.loggers.CSVLogger",
            "+logger.second.save_dir='${task.folder}/${task.name}'",
            "+trainer.logger={_target_:lightning.pytorch.loggers.CSVLogger,save_dir:third}",
        ],
    )
    callbacks = make_callbacks(cfg, "bolt", tmp_path)
    kinds = [type(each) for each in callbacks]
    assert kinds == [RichProgressBar, LearningRateMonitor, ModelCheckpoint]
    assert callbacks[2].dirpath == str(tmp_path / "mine")
    loggers = make_loggers(cfg, "bolt", tmp_path)
    assert [each.save_dir for each in loggers][1:] == [f"{tmp_path}/bolt", "third"]
    trainer = make_trainer(cfg, loggers, callbacks, 3)
    assert trainer.max_epochs == 3
    assert trainer.loggers == loggers
    assert trainer.checkpoint_callbacks == [callbacks[2]]


def test_a_training_without_a_bar_has_the_configured_one() -> None:
    trainer = make_trainer(composed("train", []), [], [], 1)
    assert isinstance(trainer.progress_bar_callback, RichProgressBar)
    assert make_trainer(composed("train", ["callbacks=none"]), [], [], 1).callbacks == []


@pytest.mark.parametrize(
    ("overrides", "text"),
    [
        (["+trainer.callbacks=[5]"], "trainer.callbacks[0]: 5 names no class"),
        (["+trainer.callbacks=5"], "trainer.callbacks: 5 names no class"),
        (["+trainer.logger=true"], "trainer.logger: True names no class"),
        (["+callbacks.x.y=1"], "callbacks.x: {'y': 1} names no class"),
        (["+callbacks.x._target_=mine.No"], "callbacks.x._target_: mine.No cannot be imported"),
        (["+logger.x._target_=fractions.Fraction"], "is not a Lightning Logger"),
        ([f"+callbacks.x._target_={MONITOR}", "+callbacks.x.z=1"], "callbacks.x: LearningRateM"),
        (["callbacks=early_stopping"], "callbacks.early_stopping.monitor: val_loss is computed"),
        (["callbacks=early_stopping", "callbacks.early_stopping.mode=no"], "callbacks.early_stop"),
        (["+trainer.no=1"], "trainer: Trainer.__init__() got an unexpected"),
        (["trainer.devices=x"], "trainer: `devices` selected with"),
        (["trainer.precision=bf16-true"], "trainer.precision: bf16-true would round"),
    ],
)
def test_what_cannot_be_used_is_refused_before_any_work(overrides: list[str], text: str) -> None:
    with pytest.raises(UserError) as error:
        check_trainer(composed("train", ["trainer.accelerator=cpu", *overrides]))
    assert text in str(error.value)


def test_early_stopping_on_held_out_images() -> None:
    cfg = composed("train", ["callbacks=early_stopping", "loader.validation=0.2"])
    check_trainer(cfg)
    check, _, stopping = make_callbacks(cfg, "bolt", Path())
    assert isinstance(check, MonitorCheck)
    assert check.monitored == {"callbacks.early_stopping.monitor": "val_loss"}
    assert isinstance(stopping, EarlyStopping)


def test_an_unknown_monitor_stops_the_training_with_a_message(tmp_path: Path) -> None:
    mvtec_tree(tmp_path, "bolt")
    shared = ["dataset=mvtec", f"dataset.root='{tmp_path}'", "maps=0", "hydra.run.dir=out"]
    small = ["dataset.resize=64", "dataset.crop=64", "loss=svdd", "loss.fit.epochs=2"]
    stopping = "+callbacks.stop={_target_:lightning.pytorch.callbacks.EarlyStopping,monitor:nope}"
    done = command("train", *shared, *small, stopping, cwd=tmp_path)
    assert done.returncode == 1
    assert "callbacks.stop.monitor: no metric 'nope' is logged; there are: loss" in done.stderr
    assert "Traceback" not in done.stderr


def test_callbacks_are_used_in_a_run(tmp_path: Path) -> None:
    mvtec_tree(tmp_path, "bolt", train=8)
    done = command(
        "train",
        *("dataset=mvtec", f"dataset.root='{tmp_path}'", "maps=0", "hydra.run.dir=out"),
        *("dataset.resize=64", "dataset.crop=64", "loss=svdd", "loss.fit.epochs=20"),
        *("callbacks=early_stopping", "loader.validation=0.25"),
        *("callbacks.early_stopping.patience=1", "callbacks.early_stopping.min_delta=1e9"),
        f"+trainer.callbacks=[{{_target_:{SAVING},dirpath:'${{task.folder}}/mine'}}]",
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    task = tmp_path / "out" / "tasks" / "bolt"
    assert list((task / "mine").glob("*.ckpt"))
    with (task / "metrics.csv").open(newline="") as stream:
        rows = [row for row in csv.DictReader(stream) if row["val_loss"]]
    assert len(rows) == 2  # the second epoch is not better by 1e9


def test_the_settings_of_wandb() -> None:
    assert wandb_settings(composed("train", [])) is None
    cfg = composed("train", ["logger=wandb", "logger.wandb.tags=[a]", "+logger.wandb.notes=b"])
    assert wandb_settings(cfg) == {
        "project": "occ-lab",
        "entity": None,
        "tags": ["a"],
        "rows": 1000,
        "checkpoints_mb": 500,
        "notes": "b",
    }


def test_lightning_is_quiet_inside_only() -> None:
    logger = logging.getLogger("lightning.pytorch")
    before = logger.level, list(warnings.filters)
    with quiet_lightning():
        assert logger.level == logging.WARNING
        assert warnings.filters != before[1]
    assert (logger.level, list(warnings.filters)) == before
    make_trainer(composed("train", ["trainer.accelerator=cpu"]), [], [], 1)
    assert (logger.level, list(warnings.filters)) == before
