"""Measure whole runs relative to a lower bound of their cost: ``python -m benchmarks --help``."""

from __future__ import annotations

import argparse
import os
import platform
import shlex
import sys
import tempfile
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

import occ_lab
from benchmarks.exported_speed import measure_export
from benchmarks.own_images import measure_own_images
from benchmarks.page import report
from benchmarks.whole_runs import (
    QUICK,
    Effort,
    large_images,
    measure_jobs,
    measure_pass,
    measure_scoring,
)
from occ_lab.reporting.record import to_json
from occ_lab.utils.allocator import keep_freed_memory
from occ_lab.utils.files import write_whole

MEASURE = {
    "pass": measure_pass,
    "jobs": measure_jobs,
    "scoring": measure_scoring,
    "export": measure_export,
}
OWN = "own"  # a part that generates its own images
SMALL_TEXTURES = [
    "dataset.category=brick",
    "dataset.train=4",
    "dataset.normal=2",
    "dataset.defective=5",
]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure what the command line requests, and write the page."""
    asked = command_line().parse_args(arguments)
    effort = QUICK if asked.quick else Effort()
    keep_freed_memory()
    console = Console()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        datasets = sources(asked.data, work, asked.quick)
        results: dict[str, Any] = {
            "command": shlex.join(["python", "-m", "benchmarks", *(arguments or sys.argv[1:])]),
            "date": date.today().isoformat(),
            "machine": machine(),
            **{part: {} for part in asked.parts},
        }
        for name in asked.datasets:
            for part in [each for each in asked.parts if each in MEASURE]:
                console.rule(f"{name}: {part}", align="left")
                dataset = [*datasets[name], *effort.backbone]
                results[part][name] = MEASURE[part](dataset, effort, work / name)
        if "pass" in asked.parts:
            for suffix in ("png", "jpg"):
                made = large_images(work / suffix, suffix, effort.images)
                results["pass"][f"1024 px, {suffix}"] = measure_pass(
                    [*made, *effort.backbone], effort, work
                )
        if OWN in asked.parts:
            console.rule("own images", align="left")
            results[OWN] = measure_own_images(effort, work / OWN)
    write_whole(asked.out / "results.json", to_json(results))
    write_whole(asked.out / "README.md", report(results))
    console.print(report(results), markup=False, highlight=False, soft_wrap=True)
    console.print(f"written to {asked.out}", soft_wrap=True)


def command_line() -> argparse.ArgumentParser:
    """The parser."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    names = list(sources(Path(), Path(), quick=False))
    parser.add_argument("--datasets", nargs="+", choices=names, default=names)
    parser.add_argument(
        "--parts",
        nargs="+",
        choices=[*MEASURE, OWN],
        default=[*MEASURE, OWN],
        help="pass: ms per image of its parts; jobs: whole runs relative to T₀; scoring: images "
        "per second; export: the same for exported detectors; own: padding, tiling, calibration",
    )
    parser.add_argument(
        "--data",
        type=Path,
        default=Path(os.environ.get("OCC_LAB_SHARED_DATA", "../shared/data")),
        metavar="DIR",
        help="contains mvtec_256 and magnetic_tile; default: $OCC_LAB_SHARED_DATA or %(default)s",
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("experiments/benchmark"),
        metavar="DIR",
        help="folder for results.json and README.md; default: %(default)s",
    )
    parser.add_argument("--quick", action="store_true", help="tiny counts, to check that it works")
    return parser


def sources(data: Path, work: Path, quick: bool) -> dict[str, list[str]]:
    """The overrides for each dataset; ``textures`` are generated in ``work``."""
    textures = ["dataset=textures", f"dataset.root='{work}'"]
    return {
        "textures": [*textures, *(SMALL_TEXTURES if quick else [])],
        "transistor": [
            "dataset=mvtec",
            f"dataset.root='{data / 'mvtec_256'}'",
            "dataset.category=transistor",
        ],
        "magnetic_tile": ["dataset=magnetic_tile", f"dataset.root='{data / 'magnetic_tile'}'"],
    }


def machine() -> dict[str, Any]:
    """The environment that the results depend on."""
    return {
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "OMP_WAIT_POLICY": os.environ.get("OMP_WAIT_POLICY"),
        "processor": platform.machine(),
        "accelerator": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "occ_lab": occ_lab.__version__,
    }


if __name__ == "__main__":
    main()
