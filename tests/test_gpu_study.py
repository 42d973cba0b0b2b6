"""`make gpu` in its short form, with the CPU in place of the GPU: nothing in it is left untried."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from experiments.gpu import correctness, study
from experiments.gpu.page import report
from experiments.gpu.setting import SHORT, Setting

COMMANDS = ("processes",)  # seconds for each process; tests/data/test_processes has DDP on the CPU


def test_every_check_runs_on_the_cpu(tmp_path: Path) -> None:
    names = [name for name in study.checks(SHORT) if name not in COMMANDS]
    study.main(["--device", "cpu", "--short", "--out", str(tmp_path), "--only", *names])
    results = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    assert list(results["checks"]) == names
    assert not {name: each["error"] for name, each in results["checks"].items() if "error" in each}
    for name, check in results["checks"].items():
        if name.startswith("objective: "):
            exact, half = check["parts"]["32-true"], check["parts"]["bf16-mixed"]
            assert exact["difference"] == exact["metrics"] == 0, name
            assert "error" not in half, name
        elif name.startswith("speed: "):
            assert check["ratio"] > 0
        else:
            assert check["agrees"], name
    page = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert page == report(results)
    assert all(name in page for name in correctness.objectives(1))


def test_without_a_gpu_nothing_is_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda check_available: None)
    study.main(["--out", str(tmp_path / "out")])
    assert capsys.readouterr().out.startswith("skipped: torch")
    assert not (tmp_path / "out").exists()


def test_only_adds_to_what_this_machine_has_recorded(tmp_path: Path) -> None:
    setting = Setting(torch.device("cpu"), SHORT, tmp_path)
    results = {"machine": study.machine(setting), "short": True, "checks": {"stream": {"a": 1}}}
    assert study.earlier(tmp_path, results) == {}
    (tmp_path / "results.json").write_text(json.dumps(results))
    assert study.earlier(tmp_path, results) == {"stream": {"a": 1}}
    assert study.earlier(tmp_path, {**results, "machine": {"device": "cuda"}}) == {}


def test_an_error_of_a_check_is_recorded(tmp_path: Path) -> None:
    def broken(setting: Setting) -> dict[str, object]:
        raise RuntimeError("no kernel")

    setting = Setting(torch.device("cpu"), SHORT, tmp_path)
    found = study.outcome("stream", broken, setting)
    assert (found["agrees"], found["error"]) == (False, "RuntimeError: no kernel")
    late = Setting(torch.device("cpu"), SHORT, tmp_path, seconds_left=lambda: -1.0)
    assert "time" in study.outcome("stream", broken, late)["error"]
    results = {"checks": {"stream": found}, "machine": study.machine(setting), "short": True}
    assert "- stream: RuntimeError: no kernel" in report(results)


def test_what_differs_does_not_agree() -> None:
    assert correctness.difference([1.0, 2.0], [1.0, 3.0]) == 0.5
    assert correctness.difference([float("nan")], [1.0]) == float("inf")
    assert not correctness.judged(0.5, 0.1)["agrees"]
