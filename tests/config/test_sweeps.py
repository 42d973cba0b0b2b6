"""Multiruns as a user types them: failures, resuming, several processes a job."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from hydra.types import RunMode

from occ_lab.config import sweeps
from occ_lab.utils.memo import Memo
from tests import warm
from tests.commands import command
from tests.data.trees import mvtec_tree

QUICK = [
    *("backbone=resnet18", "backbone.model=test_resnet", "backbone.weights=random"),
    "loss.time=10",
    "dataset.resize=64",
    "dataset.crop=64",
    "maps=1",
]


def sweep(*overrides: str, cwd: Path, fresh: bool = False) -> subprocess.CompletedProcess[str]:
    return command("train", "-m", *overrides, cwd=cwd, fresh=fresh)


def figures(directory: Path) -> dict[str, dict[str, float]]:
    found = sorted(directory.glob("*/metrics.json"))
    return {path.parent.name: json.loads(path.read_text())["mean"] for path in found}


@pytest.fixture(scope="module")
def bolts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("sweep of parts")
    for name in ("bolt", "nut"):
        mvtec_tree(root, name, bad=4)
    return root


def test_a_failed_job_is_named_and_runs_again_alone(tmp_path: Path) -> None:
    mvtec_tree(tmp_path, "bolt")
    spoilt = mvtec_tree(tmp_path, "nut") / "train" / "good" / "000.png"
    sound = spoilt.read_bytes()
    spoilt.write_bytes(sound[:100])
    asked = [
        "dataset=mvtec",
        f"dataset.root='{tmp_path}'",
        *QUICK,
        "dataset.category=nut,bolt",
        "hydra.sweep.dir=out",
    ]
    done = sweep(*asked, cwd=tmp_path)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "job 0 (dataset.category=nut): nut: 1 file(s) cannot be used" in done.stdout
    assert "1 of 2 jobs are not finished" in done.stdout
    assert str(spoilt) in (tmp_path / "out" / "0" / "error.txt").read_text()
    assert list(figures(tmp_path / "out")) == ["1"]
    spoilt.write_bytes(sound)
    done = sweep(*asked, "resume=true", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "bolt: finished before, skipped" in done.stdout
    assert "nut: finished before" not in done.stdout
    assert list(figures(tmp_path / "out")) == ["0", "1"]
    assert not (tmp_path / "out" / "0" / "error.txt").exists()


def test_only_jobs_of_a_multirun_share(monkeypatch: pytest.MonkeyPatch) -> None:
    def shared(mode: RunMode) -> Memo | None:
        monkeypatch.setattr(sweeps.HydraConfig, "get", lambda: SimpleNamespace(mode=mode))
        return sweeps.shared_by_jobs()

    assert shared(RunMode.RUN) is None
    first = shared(RunMode.MULTIRUN)
    assert first is not None
    assert shared(RunMode.MULTIRUN) is first


def test_a_killed_sweep_goes_on_to_the_same_table(bolts: Path, tmp_path: Path) -> None:
    asked = ["dataset=mvtec", f"dataset.root='{bolts}'", *QUICK, "loss.norm=1,4", "seed=0,1"]
    whole = sweep(*asked, "hydra.sweep.dir=whole", cwd=tmp_path)
    assert whole.returncode == 0, whole.stderr
    asked += ["hydra.sweep.dir=killed"]
    words = ["-m", "occ_lab.train", "-m", *asked]
    outputs = [tmp_path / "stdout", tmp_path / "stderr"]
    started = warm.started(warm.as_main, words, str(tmp_path), dict(os.environ), outputs)
    patience = time.monotonic() + 120
    while not figures(tmp_path / "killed") and time.monotonic() < patience:
        time.sleep(0.02)
    started.kill()
    started.join()
    assert 1 <= len(figures(tmp_path / "killed")) < 4
    resumed = sweep(*asked, "resume=true", cwd=tmp_path)
    assert resumed.returncode == 0, resumed.stdout + resumed.stderr
    assert figures(tmp_path / "killed") == figures(tmp_path / "whole")
    tables = [
        [
            line.rsplit(maxsplit=1)[0]
            for line in done.stdout.splitlines()
            if line.startswith("  loss.norm=")
        ]
        for done in (whole, resumed)
    ]  # but for the seconds
    assert len(tables[0]) == 2
    assert tables[0] == tables[1]


TASK_OF_SLURM = {  # a single one, as submitit asks for
    **{f"SLURM_{name}": "1" for name in ("JOB_ID", "NTASKS", "NTASKS_PER_NODE", "NNODES")},
    **{f"SLURM_{name}": "0" for name in ("PROCID", "LOCALID", "NODEID")},
    "SLURM_JOB_NAME": "occ_lab.train",
}


NOTE = """
from lightning.pytorch.callbacks import Callback


class Note(Callback):
    def __init__(self, path):
        self.path = path

    def on_fit_end(self, trainer, pl_module):
        with open(self.path, "w") as file:
            file.write(type(pl_module.objective).__name__)
"""
CALLBACKS = """
defaults:
  - default
  - _self_
note:
  _target_: my_notes.Note
  path: ${task.folder}/note.txt
"""


def test_every_job_may_run_on_two_processes(
    bolts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With classes and configuration of the user's own, and in a task of SLURM."""
    plugin = tmp_path / "my own"
    (plugin / "callbacks").mkdir(parents=True)
    (plugin / "callbacks" / "note.yaml").write_text(CALLBACKS)
    (plugin / "my_notes.py").write_text(NOTE)
    asked = ["--config-dir", str(plugin), "callbacks=note"]
    asked += ["dataset=mvtec", f"dataset.root='{bolts}'", "dataset.category=bolt", *QUICK]
    asked += ["trainer.accelerator=cpu", "loss.fit.epochs=2", "loss.fit.batch_size=4"]
    one = sweep(*asked, "loss.solver=closed_form,gradient", "hydra.sweep.dir=one", cwd=tmp_path)
    assert one.returncode == 0, one.stderr
    asked += ["trainer.devices=2", "logger=wandb", "hydra.sweep.dir=two"]
    monkeypatch.setenv("WANDB_MODE", "offline")
    for name, value in TASK_OF_SLURM.items():
        monkeypatch.setenv(name, value)
    two = sweep(*asked, "loss.solver=closed_form,gradient,by_magic", cwd=tmp_path)
    assert two.returncode == 1, two.stdout + two.stderr  # of the last
    assert "loss.solver" in (tmp_path / "two" / "2" / "error.txt").read_text()
    assert not (tmp_path / "two" / "2" / "metrics.json").exists()
    found, expected = figures(tmp_path / "two"), figures(tmp_path / "one")
    assert list(found) == list(expected) == ["0", "1"], two.stdout + two.stderr
    assert all(found[job] == pytest.approx(expected[job]) for job in found)
    for job in "01":
        scores = [
            list(csv.DictReader((tmp_path / each / job / "scores.csv").open(encoding="utf-8")))
            for each in ("one", "two")
        ]
        assert [row["path"] for row in scores[0]] == [row["path"] for row in scores[1]]
        assert [float(row["score"]) for row in scores[1]] == pytest.approx(
            [float(row["score"]) for row in scores[0]], rel=1e-4
        )
        assert len(list((tmp_path / "two" / job).glob("wandb/offline-run-*/*.wandb"))) == 1
        for task in (tmp_path / "two" / job / "tasks").iterdir():
            assert (task / "checkpoints" / "last.ckpt").is_file()
            assert (task / "metrics.csv").is_file()
            assert (task / "note.txt").read_text() == "Norm"


def test_jobs_are_processes_side_by_side(bolts: Path, tmp_path: Path) -> None:
    # tests/config/test_packages.py has launcher=cores
    asked = ["dataset=mvtec", f"dataset.root='{bolts}'", "dataset.category=bolt", *QUICK]
    done = sweep(
        *asked,
        "loss.norm=choice(1,-1)",
        "launcher=processes",
        "hydra.sweep.dir=out",
        cwd=tmp_path,
        fresh=True,  # it starts processes of its own
    )
    assert done.returncode == 1  # of the bad norm
    assert "job 1 (loss.norm=-1): loss.norm must be a number and > 0" in done.stdout
    assert list(figures(tmp_path / "out")) == ["0"]


def test_a_search_says_that_it_is_an_oracle(bolts: Path, tmp_path: Path) -> None:
    asked = ["dataset=mvtec", f"dataset.root='{bolts}'", "dataset.category=bolt", *QUICK[2:]]
    done = sweep(
        *asked,
        "experiment=oracle_search",
        "hydra.sweeper.n_trials=2",
        "hydra.sweep.dir=out",
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(figures(tmp_path / "out")) == 2
    assert "Best value" in done.stdout


def test_a_norm_sweep_by_its_name(bolts: Path, tmp_path: Path) -> None:
    done = sweep(
        "experiment=noco_norm_sweep",
        f"dataset.root='{bolts}'",
        "dataset.category=bolt",
        "backbone=efficientnet_lite0",
        *QUICK,
        "hydra.sweeper.params={loss.norm:'2',seed:'0'}",
        "hydra.sweep.dir=out",
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert list(figures(tmp_path / "out")) == ["0"]
    assert "published: image AUROC 99.0; Gao et al. 2023" in done.stdout
