"""A function in two processes of a group."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import torch.distributed as dist

from tests import warm


def in_two_processes(work: Callable[[int], None], folder: Path) -> None:
    """Call ``work(rank)``, a function of a module, in each of two processes of a group."""
    store = (folder / "store").as_uri()
    other = warm.started(in_process, 1, store, work)
    in_process(0, store, work)
    other.join()
    assert other.exitcode == 0


def in_process(rank: int, store: str, work: Callable[[int], None]) -> None:
    patience = timedelta(seconds=120)  # of one process for the other
    dist.init_process_group("gloo", init_method=store, rank=rank, world_size=2, timeout=patience)
    try:
        work(rank)
        # The threads of torch 2.7 let go of the last tensors here: its destructor waits for them
        # with the interpreter locked, which they need.
        dist.barrier()
    finally:
        dist.destroy_process_group()
