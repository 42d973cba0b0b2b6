"""Twelve jobs with one worker and with two: ``python -m experiments.sweep_speed.study --help``."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

from experiments.trial import record, table
from occ_lab.utils.files import write_whole

HERE = Path(__file__).parent
JOBS = ["loss.norm=1,2,4,8", "seed=0,1,2", "maps=0"]
WORKERS = (1, 2)
COMMAND = "python -m occ_lab.train -m launcher=cores hydra.launcher.n_jobs=N"


def main() -> None:
    """Run the trials that are not recorded yet, then write the page."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    with tempfile.TemporaryDirectory() as folder:
        warm = partial(seconds, 1, Path(folder), ["seed=0", "maps=0"])
        trials = [(f"{n} worker(s)", partial(seconds, n, Path(folder), JOBS)) for n in WORKERS]
        results = record(HERE / "results.json", [("one job, cold", warm), *trials])
    write_whole(HERE / "README.md", report(results))


def seconds(workers: int, folder: Path, jobs: list[str]) -> float:
    """The duration of a whole multirun over the textures, from its command to its table."""
    overrides = [
        *("launcher=cores", f"hydra.launcher.n_jobs={workers}", *jobs),
        *(f"hydra.sweep.dir={folder}/{workers}-{len(jobs)}", f"dataset.root={folder}/data"),
    ]
    started = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "occ_lab.train", "-m", *overrides],
        check=True,
        stdout=subprocess.DEVNULL,
        env={**os.environ, "OMP_NUM_THREADS": "1", "OCC_LAB_CACHE": f"{folder}/cache"},
    )
    return time.perf_counter() - started


def report(results: dict[str, Any]) -> str:
    """The page that shows the table."""
    one, two = (results[f"{n} worker(s)"] for n in WORKERS)
    rows = [[str(n), f"{results[f'{n} worker(s)']:.1f}"] for n in WORKERS]
    return "\n".join(
        [
            "# Parallel jobs",
            "",
            f"`{COMMAND} {' '.join(JOBS)}`",
            "",
            "Twelve jobs, each trained by gradient on the three textures, with features from a",
            "warm cache and one thread per job; from command to table.",
            "`python -m experiments.sweep_speed.study` makes this page.",
            "",
            *table(["workers N", "seconds"], rows),
            "",
            f"Two workers take {two / one:.2f} of the time of one (target: 0.65).",
            "",
        ]
    )


if __name__ == "__main__":
    main()
