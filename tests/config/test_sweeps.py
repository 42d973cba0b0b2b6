"""Multiruns as a user types them: failures, resuming, several processes a job."""

from __future__ import annotations

import csv
import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from hydra.types import RunMode

from occ_lab.config import sweeps
from occ_lab.utils.memo import Memo
from tests.commands import command
from tests.data.trees import mvtec_tree

QUICK = [
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
    started = subprocess.Popen(
        [sys.executable, "-m", "occ_lab.train", "-m", *asked],
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    patience = time.monotonic() + 120
    while not figures(tmp_path / "killed") and time.monotonic() < patience:
        time.sleep(0.02)
    started.send_signal(signal.SIGKILL)
    started.wait()
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


def test_every_job_may_run_on_two_processes(
    bolts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = ["dataset=mvtec", f"dataset.root='{bolts}'", "dataset.category=bolt", *QUICK]
    asked += ["trainer.accelerator=cpu", "loss.solver=closed_form,gradient"]
    asked += ["loss.fit.epochs=2", "loss.fit.batch_size=4"]
    one = sweep(*asked, "hydra.sweep.dir=one", cwd=tmp_path)
    assert one.returncode == 0, one.stderr
    asked += ["trainer.devices=2", "logger=wandb", "hydra.sweep.dir=two"]
    monkeypatch.setenv("WANDB_MODE", "offline")
    two = sweep(*asked, cwd=tmp_path)
    assert two.returncode == 0, two.stdout + two.stderr
    assert sorted(path.name for path in (tmp_path / "two").iterdir() if path.is_dir()) == ["0", "1"]
    found, expected = figures(tmp_path / "two"), figures(tmp_path / "one")
    assert list(found) == list(expected) == ["0", "1"]
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


@pytest.mark.parametrize("launcher", ["cores", "processes"])
def test_jobs_side_by_side(bolts: Path, tmp_path: Path, launcher: str) -> None:
    asked = ["dataset=mvtec", f"dataset.root='{bolts}'", "dataset.category=bolt", *QUICK]
    done = sweep(
        *asked,
        "loss.norm=choice(1,-1)",
        f"launcher={launcher}",
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
