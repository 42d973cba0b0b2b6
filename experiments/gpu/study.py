"""Every check that needs a GPU, by one command: ``python -m experiments.gpu.study``, `make gpu`.

Each check stands alone: if one fails, its error is recorded and the others run. Images are
generated, or are the embedded photographs; nothing is downloaded. Without a GPU nothing is run and
nothing is written.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from datetime import date
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from experiments.gpu import correctness, speed
from experiments.gpu.page import report
from experiments.gpu.setting import SHORT, Effort, Figures, Setting
from occ_lab.config.launchers import cores
from occ_lab.utils.files import write_whole

__all__ = ["main", "report"]

HERE = Path(__file__).parent
PACKAGES = ("torch", "lightning", "timm", "numpy")
MINUTES = 7.5

Check = Callable[[Setting], Figures]


def main(given: Sequence[str] | None = None) -> None:
    """Run the checks, and write results.json and README.md after each of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--device", help="cuda, mps or cpu; by default the accelerator of this machine"
    )
    parser.add_argument("--out", type=Path, default=HERE, help="folder of the results")
    parser.add_argument("--only", nargs="+", help="names of checks, or how they begin")
    parser.add_argument("--short", action="store_true", help="tiny sizes, to try the study itself")
    parser.add_argument(
        "--minutes", type=float, default=MINUTES, help="no check starts later; default %(default)s"
    )
    arguments = parser.parse_args(given)
    device = chosen_device(arguments.device)
    if device is None:
        print(
            f"skipped: torch {torch.__version__} finds no GPU on this machine; nothing was run and "
            "nothing was written. --device cpu tries the study itself."
        )
        return
    effort = SHORT if arguments.short else Effort()
    arguments.out.mkdir(parents=True, exist_ok=True)
    end = time.perf_counter() + 60 * arguments.minutes

    def seconds_left() -> float:
        return end - time.perf_counter()

    with tempfile.TemporaryDirectory() as folder:
        setting = Setting(device, effort, Path(folder), seconds_left)
        results: dict[str, Any] = {"machine": machine(setting), "short": arguments.short}
        every = checks(effort)
        found = earlier(arguments.out, results)
        for name, check in wanted(every, arguments.only).items():
            if name not in found or setting.seconds_left() > 0:
                found[name] = outcome(name, check, setting)
            results["checks"] = {name: found[name] for name in every if name in found}
            keep(results, arguments.out)
    failed = [name for name, each in results["checks"].items() if not each.get("agrees")]
    page = arguments.out / "README.md"
    print(f"{len(results['checks'])} checks, {len(failed)} not passed: {page}")


def chosen_device(name: str | None) -> torch.device | None:
    """The device of this name; without a name the accelerator, or None if there is none."""
    if name is not None:
        return torch.device(name)
    return torch.accelerator.current_accelerator(check_available=True)


def checks(effort: Effort) -> dict[str, Check]:
    """All checks in the order in which they run, the most valuable first."""
    return {
        "backbone": correctness.check_backbone,
        **{
            f"objective: {name}": partial(correctness.check_objective, name=name)
            for name in correctness.objectives(effort.bank)
        },
        "densities": correctness.check_densities,
        "representations": correctness.check_representations,
        "run directory": correctness.check_run_directory,
        "stream": correctness.check_stream,
        "processes": correctness.check_processes,
        "speed: scoring": speed.measure_scoring,
        "speed: CFA": speed.measure_cfa,
        "speed: job": speed.measure_job,
        "speed: extraction, bfloat16": partial(speed.measure_extraction, precision="bfloat16"),
        "speed: extraction, float32": partial(speed.measure_extraction, precision="float32"),
    }


def wanted(every: dict[str, Check], only: Sequence[str] | None) -> dict[str, Check]:
    """The checks whose names begin with one of ``only``; None chooses all."""
    beginnings = tuple(only or [""])
    return {name: check for name, check in every.items() if name.startswith(beginnings)}


def earlier(out: Path, now: dict[str, Any]) -> dict[str, Figures]:
    """The checks of this machine that are recorded already, to which `--only` adds."""
    try:
        then = json.loads((out / "results.json").read_text(encoding="utf-8"))
        same = all(then[each] == now[each] for each in ("machine", "short"))
        return dict(then["checks"]) if same else {}
    except (OSError, ValueError, KeyError):
        return {}


def outcome(name: str, check: Check, setting: Setting) -> Figures:
    """The figures of a check and its seconds; or its error, or that there was no time for it."""
    if setting.seconds_left() <= 0:
        print(f"{name}: not run, because the time is over")
        return {"agrees": False, "error": "not run, because the time was over"}
    started = time.perf_counter()
    try:
        found = check(setting)
    except Exception as error:  # whatever it is, the other checks can run
        traceback.print_exc()
        found = correctness.failed(error)
    seconds = time.perf_counter() - started
    print(f"{name}: {'passed' if found['agrees'] else 'NOT PASSED'}, {seconds:.1f} s", flush=True)
    return {
        **found,
        "check_seconds": seconds,
        "occ_lab": version("occ-lab"),
        "date": str(date.today()),
        "scratch": tempfile.gettempdir(),
    }


def machine(setting: Setting) -> dict[str, Any]:
    """The devices, processor and versions."""
    cuda = setting.device.type == "cuda"
    devices = range(setting.count) if cuda else ()
    names = [torch.cuda.get_device_name(number) for number in devices]
    return {
        "device": setting.device.type,
        "names": names or [platform.processor() or platform.machine()],
        "cores": cores(),
        "threads": torch.get_num_threads(),
        "omp_num_threads": os.environ.get("OMP_NUM_THREADS"),
        "cuda": torch.version.cuda if cuda else None,
        "cudnn": torch.backends.cudnn.version() if cuda else None,
        "python": platform.python_version(),
        "versions": {name: version(name) for name in PACKAGES},
    }


def keep(results: dict[str, Any], out: Path) -> None:
    """Write what there is so far."""
    write_whole(out / "results.json", json.dumps(results, indent=1) + "\n")
    write_whole(out / "README.md", report(results))


if __name__ == "__main__":
    main()
