"""The GPU and the cores of each of several jobs on one machine."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout

VISIBLE = "CUDA_VISIBLE_DEVICES"
PAUSE = 0.2  # seconds between two looks for a free GPU
_own: list[str] = []  # the GPU of this process, once it has one


@contextmanager
def one_gpu(folder: Path) -> Iterator[None]:
    """Restrict a job to one GPU that no other job of the same sweep uses meanwhile.

    The cores of the machine are divided by its GPUs, as there are no more jobs at once. A process
    has the same GPU for all its jobs, since CUDA cannot change devices once it has been
    initialised; a job waits until it is free, so that more processes than GPUs do no harm. On a
    machine with one GPU or none, nothing is done.

    Args:
        folder: the directory of the sweep, which holds the locks.
    """
    if not _own and torch.cuda.device_count() < 2:
        yield
        return
    if not _own:
        torch.set_num_threads(max(1, cores() // len(visible())))
    with first_free(_own or visible(), folder) as name:
        _own[:] = [name]
        os.environ[VISIBLE] = name
        yield


def visible() -> list[str]:
    """The names of the GPUs that this process may use."""
    given = os.environ.get(VISIBLE)
    return given.split(",") if given else [str(n) for n in range(torch.cuda.device_count())]


@contextmanager
def first_free(names: Sequence[str], folder: Path) -> Iterator[str]:
    """Hold the first of ``names`` that no other job holds; waits until there is one."""
    while True:
        for name in names:
            lock = FileLock(folder / f".gpu{name.replace('/', '_')}.lock")
            try:
                lock.acquire(timeout=0)
            except Timeout:
                continue
            try:
                yield name
            finally:
                lock.release()
            return
        time.sleep(PAUSE)


def use_own_cores(launcher: Mapping[str, Any]) -> None:
    """Compute with as many threads as a job has cores, where a launcher of submitit says so.

    Args:
        launcher: the configuration of Hydra's launcher.
    """
    if "cpus_per_task" in launcher:
        torch.set_num_threads(launcher["cpus_per_task"] or 1)


def cores() -> int:
    """The number of processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
