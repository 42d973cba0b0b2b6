"""Each process gets one GPU."""

from __future__ import annotations

import os
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
import torch

from occ_lab.config import launchers as devices
from tests import warm


def hold(folder: Path, connection: Connection) -> None:
    """Take the first free GPU of two, say which, and keep it until told otherwise."""
    with devices.first_free(["2", "5"], folder) as name:
        connection.send(name)
        connection.recv()


def holding(folder: Path) -> tuple[BaseProcess, Connection]:
    """A process that takes the first free GPU of two, and the end of its pipe."""
    here, there = Pipe()
    return warm.started(hold, folder, there), here


def test_each_job_has_its_own_and_others_wait(tmp_path: Path) -> None:
    (first, one), (second, two) = holding(tmp_path), holding(tmp_path)
    assert {one.recv(), two.recv()} == {"2", "5"}
    third, three = holding(tmp_path)
    assert not three.poll(0.5)
    second.kill()  # a killed job gives its GPU back
    assert three.recv() in ("2", "5")
    for process, connection in ((first, one), (third, three)):
        connection.send("enough")
        process.join()
        assert process.exitcode == 0


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
