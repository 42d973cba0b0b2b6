"""One GPU for each of several jobs on one machine."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from filelock import FileLock, Timeout

VISIBLE = "CUDA_VISIBLE_DEVICES"
PAUSE = 0.2  # seconds between two looks for a free GPU
_own: list[str] = []  # the GPU of this process, once it has one


@contextmanager
def one_gpu(folder: Path) -> Iterator[None]:
    """Restrict a job to one GPU that no other job of the same sweep uses meanwhile.

    A process has the same GPU for all its jobs, since CUDA cannot change devices once it has been
    initialised; a job waits until it is free, so that more processes than GPUs do no harm. On a
    machine with one GPU or none, nothing is done.

    Args:
        folder: the directory of the sweep, which holds the locks.
    """
    if not _own and torch.cuda.device_count() < 2:
        yield
        return
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
