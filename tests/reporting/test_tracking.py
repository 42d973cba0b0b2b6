"""The W&B run that belongs to a run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from occ_lab.reporting.tracking import TaskLogger, tracked

wandb = pytest.importorskip("wandb")


def test_nothing_is_sent_without_settings(tmp_path: Path) -> None:
    for settings, leads in ((None, True), ({"project": "p"}, False)):
        with tracked(settings, {}, tmp_path, leads, "norm") as tracking:
            assert wandb.run is None
            tracking.task_ended("bolt", np.zeros(2), np.array([0, 1]), [])
            tracking.run_ended({})


def test_the_loggers_of_all_tasks_share_one_run(tmp_path: Path) -> None:
    settings = {"project": "p", "tags": ["a"], "mode": "offline"}
    with tracked(settings, {"seed": 3}, tmp_path, True, "norm") as tracking:
        run = wandb.run
        assert tracking.wandb is run
        assert (run.project, run.tags, run.name) == ("p", ("a",), tmp_path.name)
        assert run.config["seed"] == 3
        for task in ("bolt", "nut"):
            logger = TaskLogger(prefix=task, project="p")
            logger.log_metrics({"loss": 1.0}, step=0)
            assert logger.experiment is run
    assert wandb.run is None
