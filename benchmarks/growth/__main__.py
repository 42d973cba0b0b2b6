"""How time and memory grow: ``python -m benchmarks.growth --help``.

Every point is measured in a process of its own, and recorded at once: what is recorded is not
measured again. The pages are made from the record.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from datetime import date
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from benchmarks.growth.axes import AXES, point
from benchmarks.growth.page import plot, report
from occ_lab.utils.files import write_whole

OUT = Path("experiments/growth")
SMALLEST = 2  # sizes of each case that ``--quick`` measures


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure what is not recorded yet, and write the page and the plot."""
    asked = command_line().parse_args(arguments)
    path = asked.out / "results.json"
    results: dict[str, Any] = {"points": {}}
    if path.is_file():
        results = json.loads(path.read_text(encoding="utf-8"))
    results |= {
        "date": date.today().isoformat(),
        "torch": torch.__version__,
        "cores": os.cpu_count(),
    }
    console = Console(highlight=False, markup=False, soft_wrap=True)
    # A process that has imported everything and done nothing, from which each point starts.
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(["benchmarks.growth.axes"])
    for axis in asked.only:
        for name, case in AXES[axis].items():
            for size in case.sizes[: SMALLEST if asked.quick else None]:
                found = results["points"].setdefault(axis, {}).setdefault(name, {})
                if str(size) in found:
                    continue
                with ProcessPoolExecutor(1, mp_context=processes) as pool:
                    found[str(size)] = pool.submit(point, axis, name, size).result()
                write_whole(path, json.dumps(results, indent=1) + "\n")
                figures = " ".join(f"{key}={value:.4g}" for key, value in found[str(size)].items())
                console.print(f"{axis}, {name}, {size}: {figures}")
    write_whole(asked.out / "README.md", report(results))
    plot(results, asked.out / "growth.png")


def command_line() -> argparse.ArgumentParser:
    """The options."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.growth", description=__doc__)
    parser.add_argument(
        "--only",
        nargs="+",
        choices=list(AXES),
        default=list(AXES),
        metavar="AXIS",
        help=f"of {', '.join(AXES)}; default: all",
    )
    parser.add_argument("--quick", action="store_true", help="the two smallest sizes only")
    parser.add_argument("--out", type=Path, default=OUT, metavar="DIR", help="default: %(default)s")
    return parser


if __name__ == "__main__":
    main()
