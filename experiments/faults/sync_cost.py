"""The cost of writing names to the disk before they count: runs with and without ``fsync``."""

from __future__ import annotations

import os
import time
from pathlib import Path
from statistics import median
from typing import Any

from occ_lab.config.composition import composed
from occ_lab.config.train import perform_run

TURNS = 5  # runs of each kind, in turn, so that other work on the machine affects both alike


def sync_cost(folder: Path) -> dict[str, Any]:
    """Seconds of the default run on one texture, from images to heatmaps and back from the cache.

    Returns:
        ``seconds`` and ``without``, the medians, and ``syncs``, the number of calls in a run.
    """
    fsync, calls = os.fsync, 0

    def counted(descriptor: int) -> None:
        nonlocal calls
        calls += 1
        fsync(descriptor)

    def run(number: int, sync: Any) -> float:
        where = [f"dataset.root='{folder}/data'", f"cache.dir='{folder}/cache{number}'"]
        os.fsync = sync
        started = time.perf_counter()
        try:
            perform_run(composed("train", ["dataset.category=brick", *where]), folder / str(number))
        finally:
            os.fsync = fsync
        return time.perf_counter() - started

    run(0, fsync)  # makes the data
    synced, without = [], []
    for turn in range(TURNS):
        synced.append(run(2 * turn + 1, counted))
        without.append(run(2 * turn + 2, lambda descriptor: None))
    return {
        "seconds": median(synced),
        "without": median(without),
        "syncs": calls / TURNS,
    }
