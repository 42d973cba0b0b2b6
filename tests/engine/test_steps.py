"""A training that is limited by steps, and one that chooses their number."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import CSVLogger, Logger

import occ_lab
from occ_lab.backbones import TimmBackbone
from occ_lab.backbones.lenet import LeNet
from occ_lab.data.datasets.textures import Textures
from occ_lab.engine import steps as steps_module
from occ_lab.engine.calibrate import CalibrationPlan
from occ_lab.engine.fitted import Fitted
from occ_lab.engine.job import Job, NoWatcher
from occ_lab.engine.run import run
from occ_lab.engine.single_fit import fit_without
from occ_lab.engine.steps import ChosenSteps, StepCount, best_auroc, choice, ended
from occ_lab.objectives import CFA, DeepSVDD, Norm, PaDiM
from occ_lab.objectives.base import Objective
from occ_lab.reporting.record import RunRecord
from occ_lab.utils.errors import InputError
from tests import warm
from tests.engine.plans import on_cpu

GRADIENT = partial(Norm, solver="gradient")
SIZES = {"train": 20, "normal": 4, "defective": 5, "resize": 64, "crop": 64}
HEADER = {"dataset": "textures", "loss": "norm", "backbone": "test_resnet", "seed": 0}


def curve(*aurocs: float) -> list[dict[str, float]]:
    points = zip((2**power for power in range(20)), aurocs, strict=False)
    return [{"step": step, "cut_and_paste_auroc": auroc} for step, auroc in points]


def test_the_smallest_number_that_is_nearly_best_is_chosen() -> None:
    assert choice(curve(0.5, 0.6, 0.795, 0.80, 0.804, 0.7)) == 4
    assert choice(curve(0.5, 0.6, 0.79, 0.80, 0.804, 0.7)) == 8
    assert choice(curve(0.9, 0.6)) == 1
    assert best_auroc(curve(0.5, 0.7, 0.6)) == 0.7


def test_a_training_ends_where_a_doubling_adds_too_little() -> None:
    early = [0.6] * 6
    assert not ended(curve())
    assert not ended(curve(*early, 0.7))
    assert not ended(curve(*early, 0.7, 0.72))
    assert ended(curve(*early, 0.7, 0.705))
    assert ended(curve(*early, 0.7, 0.6))


def test_every_process_has_held_out_images() -> None:
    chooser = ChosenSteps()
    assert chooser.held_out(200, 1) == 0.1
    assert round(chooser.held_out(8, 1) * 8) == 2
    assert round(chooser.held_out(20, 8) * 20) == 8
    assert round(chooser.held_out(3, 1) * 3) == 1
    assert chooser.held_out(1, 1) == 0
    assert StepCount(5).held_out(200, 1) == 0


def job(tmp_path: Path, objective: Callable[[], Objective] = GRADIENT, **settings: Any) -> Job:
    bricks = Textures(
        root=tmp_path / "data", category="brick", **{**SIZES, **settings.pop("sizes", {})}
    )
    backbone = settings.pop("backbone", None) or TimmBackbone("test_resnet", weights="random")
    common = {"batch_size": 4, "trainer": on_cpu, "maps": 0}
    return Job([bricks], backbone, objective, **{**common, **settings})


def member(asked: Job, *callbacks: Callback, aside: tuple[int, ...] = ()) -> Fitted:
    return fit_without(aside, asked, asked.benchmark, "brick", [], callbacks)


def state(found: Fitted) -> dict[str, torch.Tensor]:
    return {
        name: value
        for name, value in found.detector.state_dict().items()
        if not name.startswith("backbone.")
    }


class Seen(Callback):
    """The images that a training uses in its steps."""

    def __init__(self) -> None:
        self.paths: set[str] = set()

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        self.paths |= set(batch["path"])


@pytest.mark.parametrize("objective", [GRADIENT, CFA, partial(DeepSVDD, "soft", warmup=1)])
def test_the_state_is_that_of_a_training_of_so_many_steps(
    objective: Callable[[], Objective], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(steps_module, "MOST", 64)
    seen = Seen()
    auto = member(job(tmp_path, objective, steps="auto"), seen)
    assert auto.steps == choice(auto.curve)
    assert auto.steps <= auto.curve[-1]["step"] == auto.trainer.global_step
    fixed = member(job(tmp_path, objective, steps=auto.steps, validation=0.1))
    assert fixed.steps == fixed.trainer.global_step == auto.steps
    expected, found = state(fixed), state(auto)
    assert list(expected) == list(found)
    assert all(torch.equal(expected[name], found[name]) for name in expected)

    held_out = {str(item) for item in auto.data.validation_images.items}
    assert len(held_out) == 2
    assert len(seen.paths) == 18
    assert not held_out & seen.paths
    assert not {str(item) for item in auto.data.split.test} & (seen.paths | held_out)


def test_steps_are_chosen_by_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps_module, "MOST", 4)
    found = member(job(tmp_path))
    assert [row["step"] for row in found.curve] == [1, 2, 4]
    assert not found.trainer.callback_metrics.keys() & {"val_loss"}
    assert "val_loss" in member(job(tmp_path, validation=0.2)).trainer.callback_metrics
    assert member(job(tmp_path, max_epochs=1)).curve == ()
    assert member(job(tmp_path, max_epochs=2)).steps == 10
    assert member(job(tmp_path, PaDiM)).steps is None


def test_a_single_image_leaves_none_to_hold_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(steps_module, "UNKNOWN", 3)
    with caplog.at_level("INFO", logger="occ_lab"):
        found = member(job(tmp_path, sizes={"train": 1}))
    assert (found.steps, found.curve) == (3, ())
    assert "no image can be held out" in caplog.text


def test_a_score_that_is_not_a_number_is_never_chosen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(steps_module, "MOST", 8)

    class Diverged(Callback):
        def on_train_batch_start(
            self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
        ) -> None:
            if trainer.global_step == 2:
                pl_module.projector.conv.weight.data.fill_(torch.nan)

    found = member(job(tmp_path), Diverged())
    assert found.curve[-1]["cut_and_paste_auroc"] == 0
    assert all(value.isfinite().all() for value in state(found).values())


class StoppedError(Exception):
    """Ends a run in the middle."""


class StopAt(Callback):
    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.current_epoch == 2:
            raise StoppedError


class Watching(NoWatcher):
    """Logs into a folder; its callbacks are those given."""

    def __init__(self, *own: Callback) -> None:
        self.own = list(own)

    def callbacks(self, task: str, folder: Path) -> list[Callback]:
        return self.own

    def loggers(self, task: str, folder: Path) -> list[Logger]:
        return [CSVLogger(folder, name="", version="")]


def test_a_run_records_what_was_chosen_and_is_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(steps_module, "MOST", 16)
    asked = job(tmp_path, checkpoint_every=1)
    figures = run(asked, RunRecord(tmp_path / "whole", HEADER, {}), Watching())["brick"]
    folder = tmp_path / "whole" / "tasks" / "brick"
    logged = (folder / "metrics.csv").read_text()
    assert "steps/cut_and_paste_auroc" in logged.splitlines()[0]
    assert (folder / "learning_curve.png").stat().st_size > 10_000
    assert figures["steps"] in (1, 2, 4, 8, 16)
    assert json.loads((folder / "metrics.json").read_text())["steps"] == figures["steps"]

    stopped = tmp_path / "stopped"
    with pytest.raises(StoppedError):
        run(asked, RunRecord(stopped, HEADER, {}), Watching(StopAt()))
    resumed = run(asked, RunRecord(stopped, HEADER, {}, resume=True), Watching())["brick"]
    assert resumed["steps"] == figures["steps"]
    scores = [path / "scores.csv" for path in (stopped, tmp_path / "whole")]
    assert scores[0].read_text() == scores[1].read_text()


def test_each_fold_of_a_calibration_chooses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(steps_module, "MOST", 2)
    plan = CalibrationPlan(folds=2, overkill=0.25)
    asked = job(tmp_path, calibration=plan)
    figures = run(asked, RunRecord(tmp_path / "run", HEADER, {}), NoWatcher())["brick"]
    assert figures["calibration"]["images"] == SIZES["train"]
    found = member(asked, aside=tuple(range(10)))
    held_out = {str(item) for item in found.data.validation_images.items}
    assert len(held_out) == 2
    assert not held_out & {str(item) for item in found.data.calibration_images.items}


def test_from_python(tmp_path: Path) -> None:
    data = occ_lab.data.Textures(root=tmp_path / "data", category="brick", batch_size=4, **SIZES)
    backbone = TimmBackbone("test_resnet", weights="random")
    fit = partial(occ_lab.fit, data, GRADIENT(), backbone, cache=False, trainer=on_cpu)
    assert fit(steps=3).steps == 3
    with pytest.raises(InputError, match="steps: 3 and 2 epochs are both asked for"):
        fit(steps=3, max_epochs=2)
    with pytest.raises(InputError, match="steps: must be auto or an integer >= 1, got 0"):
        fit(steps=0)


def test_a_backbone_that_is_trained_keeps_its_epochs(tmp_path: Path) -> None:
    asked = partial(job, tmp_path, DeepSVDD, backbone=LeNet())
    assert asked().epochs == 10
    assert asked(max_epochs=3).epochs == 3
    assert asked(steps=7).epochs is None
    with pytest.raises(InputError, match="auto needs a frozen backbone, and lenet is trained"):
        asked(steps="auto").check_length()


SCRIPT = """
import json, sys
from functools import partial
from pathlib import Path

from lightning import Trainer

from occ_lab.backbones import TimmBackbone
from occ_lab.data.datasets.textures import Textures
from occ_lab.engine import steps
from occ_lab.engine.single_fit import fit_without
from occ_lab.engine.job import Job
from occ_lab.objectives import Norm


def trainer(loggers, callbacks, max_epochs):
    return Trainer(
        accelerator="cpu", devices=2, strategy="ddp", logger=loggers, callbacks=callbacks,
        max_epochs=max_epochs, enable_checkpointing=False, enable_progress_bar=False,
        use_distributed_sampler=False,
    )


if __name__ == "__main__":
    root = Path(sys.argv[1])
    steps.MOST = 16
    sizes = {"train": 20, "normal": 4, "defective": 5, "resize": 64, "crop": 64}
    bricks = Textures(root=root / "data", category="brick", **sizes)
    backbone = TimmBackbone("test_resnet", weights="random")
    gradient = partial(Norm, solver="gradient")
    job = Job([bricks], backbone, gradient, batch_size=4, trainer=trainer)
    found = fit_without([], job, bricks, "brick")
    weight = float(found.detector.projector.conv.weight.double().sum())
    found_here = {"steps": found.steps, "curve": found.curve, "weight": weight}
    (root / f"rank{found.trainer.global_rank}.json").write_text(json.dumps(found_here))
"""


def test_two_processes_choose_together(tmp_path: Path) -> None:
    Textures(root=tmp_path / "data", category="brick", **SIZES).split("brick")  # made once
    script = tmp_path / "job.py"
    script.write_text(SCRIPT, encoding="utf-8")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    for done in warm.run_in_two([str(script), str(tmp_path)], environment=environment):
        assert done.returncode == 0, done.stderr
    first, second = (json.loads((tmp_path / f"rank{rank}.json").read_text()) for rank in (0, 1))
    assert [row["step"] for row in first["curve"]] == [1, 2, 4, 8, 16]
    assert first == second
