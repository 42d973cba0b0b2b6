"""One GPU for each of several jobs on one machine."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from filelock import FileLock, Timeout

from occ_lab.config.errors import UserError

VISIBLE = "CUDA_VISIBLE_DEVICES"
_held: list[FileLock] = []  # for as long as the process lives


def claim_one(folder: Path) -> None:
    """Restrict this process to one GPU that no other process of the same sweep uses.

    The process keeps its GPU for all its jobs, since CUDA cannot change devices once it has been
    initialised. On a machine with one GPU or none, nothing is done.

    Args:
        folder: the directory of the sweep, which holds the locks.

    Raises:
        UserError: more jobs run at once than there are GPUs.
    """
    if _held or torch.cuda.device_count() < 2:
        return
    given = os.environ.get(VISIBLE)
    names = given.split(",") if given else [str(n) for n in range(torch.cuda.device_count())]
    name, lock = first_free(names, folder)
    _held.append(lock)
    os.environ[VISIBLE] = name


def first_free(names: list[str], folder: Path) -> tuple[str, FileLock]:
    """The first of ``names`` that no running process has locked, and our lock of it.

    Raises:
        UserError: all are locked.
    """
    for name in names:
        lock = FileLock(folder / f".gpu{name.replace('/', '_')}.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            continue
        return name, lock
    raise UserError(
        f"hydra.launcher: more jobs at once than the {len(names)} GPUs here; lower "
        "hydra.launcher.n_jobs"
    )
