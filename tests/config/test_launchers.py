"""Each process gets one GPU."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from occ_lab.config import launchers as devices

HOLD = (
    "import sys; from pathlib import Path; from occ_lab.config.launchers import first_free\n"
    "with first_free(['2', '5'], Path(sys.argv[1])) as name: print(name, flush=True); input()"
)


def holding(folder: Path) -> subprocess.Popen[str]:
    """A process that takes the first free GPU of two, once it has begun to look."""
    return subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def taken(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_each_job_has_its_own_and_others_wait(tmp_path: Path) -> None:
    first, second = holding(tmp_path), holding(tmp_path)
    assert {taken(first), taken(second)} == {"2", "5"}
    third = holding(tmp_path)
    assert third.poll() is None
    second.kill()  # a killed job gives its GPU back
    assert taken(third) in ("2", "5")
    for process in (first, third):
        process.communicate("\n")


def test_a_process_keeps_its_gpu_and_frees_it_between_jobs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    monkeypatch.setattr(devices, "_own", [])
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,6,7")
    monkeypatch.setattr(devices, "cores", lambda: 13)
    threads: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", threads.append)
    for _ in range(2):
        with devices.one_gpu(tmp_path):
            assert os.environ["CUDA_VISIBLE_DEVICES"] == "4"
        with devices.first_free(["4"], tmp_path) as free:
            assert free == "4"
    assert threads == [4]


@pytest.mark.parametrize(("launcher", "threads"), [({"cpus_per_task": 3}, [3]), ({}, [])])
def test_a_job_of_submitit_uses_its_cores(
    monkeypatch: pytest.MonkeyPatch, launcher: dict[str, int], threads: list[int]
) -> None:
    found: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", found.append)
    devices.use_own_cores(launcher)
    assert found == threads


def test_one_gpu_or_none_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "_own", [])
    for count in (0, 1):
        monkeypatch.setattr(torch.cuda, "device_count", lambda count=count: count)
        with devices.one_gpu(tmp_path):
            pass
    assert not devices._own
    assert not list(tmp_path.iterdir())
