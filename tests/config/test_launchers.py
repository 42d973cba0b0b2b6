"""One GPU a process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from occ_lab.config import launchers as devices
from occ_lab.config.errors import UserError

HOLD = (
    "import sys; from pathlib import Path; from occ_lab.config.launchers import first_free; "
    "name, lock = first_free(['2', '5'], Path(sys.argv[1])); print(name, flush=True); input()"
)


def test_each_process_gets_its_own(tmp_path: Path) -> None:
    held = []
    for expected in ("2", "5"):
        process = subprocess.Popen(
            [sys.executable, "-c", HOLD, str(tmp_path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        assert process.stdout.readline().strip() == expected
        held.append(process)
    with pytest.raises(UserError, match="more jobs at once than the 2 GPUs"):
        devices.first_free(["2", "5"], tmp_path)
    held[0].kill()  # a killed job gives its GPU back
    held[0].wait()
    assert devices.first_free(["2", "5"], tmp_path)[0] == "2"
    held[1].communicate("\n")


def test_a_process_keeps_what_it_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    monkeypatch.setattr(devices, "_held", [])
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,6,7")
    for _ in range(2):
        devices.claim_one(tmp_path)
        assert os.environ["CUDA_VISIBLE_DEVICES"] == "4"


def test_one_gpu_or_none_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "_held", [])
    for count in (0, 1):
        monkeypatch.setattr(torch.cuda, "device_count", lambda count=count: count)
        devices.claim_one(tmp_path)
    assert not devices._held
    assert not list(tmp_path.iterdir())
