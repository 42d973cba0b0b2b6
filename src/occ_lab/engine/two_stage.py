"""Two-stage one-class classification: an encoder for each task, then densities of its features."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from occ_lab.backbones.learned import SUFFIX
from occ_lab.data.base import Benchmark
from occ_lab.engine.job import NoWatcher, Watcher
from occ_lab.engine.representation import FIGURES, RepresentationPlan, learn
from occ_lab.engine.stopping import resumable
from occ_lab.reporting.record import leads, mean_metrics, to_json
from occ_lab.reporting.tables.two_stage import stages_table
from occ_lab.utils.files import write_whole

BACKBONES, STAGE1, DENSITIES = "backbones", "stage1", "densities"  # folders of a run directory


def begun(directory: Path) -> bool:
    """Whether a run directory holds an encoder, or a training that was stopped."""
    finished = directory.glob(f"{BACKBONES}/*{SUFFIX}")
    return any(finished) or any(directory.glob(f"{STAGE1}/*/last.ckpt"))


def learn_encoders(
    plan: RepresentationPlan,
    benchmark: Benchmark,
    directory: Path,
    watcher: Watcher | None = None,
) -> dict[str, dict[str, Any]]:
    """Train the encoder of every task that has none yet.

    An encoder that is trained can be used as ``LearnedBackbone(directory / "backbones")``.

    Args:
        plan: how they are trained.
        benchmark: where the images come from.
        directory: the encoders are written to ``backbones/TASK.safetensors`` in it, and the curves
            of their training to ``stage1/TASK/``.
        watcher: loggers and callbacks; None logs nothing.

    Returns:
        What `learn` returns, for each task; an empty dict on non-zero ranks.

    Raises:
        SystemExit: Ctrl-C; what is finished stays, and the last checkpoint.
    """
    watcher = watcher or NoWatcher()
    console = Console(quiet=not leads())
    tasks = benchmark.tasks()
    done: list[str] = []
    with resumable(directory, console, lambda: encoders_done(done, tasks)):
        for number, task in enumerate(tasks, start=1):
            title = f"{plan.name}, {task} ({number} of {len(tasks)})"
            target = directory / BACKBONES / f"{task}{SUFFIX}"
            if target.is_file():
                console.print(f"{title}: trained before, skipped")
            else:
                console.rule(title, align="left")
                folder = directory / STAGE1 / task
                if leads():
                    keep_curve(folder)
                logging = watcher.loggers(task, folder), watcher.callbacks(task, folder)
                learn(plan, benchmark, task, folder, target, *logging)
            done.append(task)
    if not leads():
        return {}
    files = {task: directory / STAGE1 / task / FIGURES for task in tasks}
    return {task: json.loads(path.read_text(encoding="utf-8")) for task, path in files.items()}


def encoders_done(done: list[str], tasks: list[str]) -> str:
    """How many encoders are finished, in words."""
    return f"{len(done)} of {len(tasks)} encoders are finished."


def keep_curve(folder: Path) -> None:
    """Rename the curve of a stopped training, since a logger begins its file again."""
    curve = folder / "metrics.csv"
    if curve.is_file():
        earlier = len(list(folder.glob("metrics.*.csv")))
        curve.rename(folder / f"metrics.{earlier + 1}.csv")


def report(
    directory: Path,
    header: Mapping[str, Any],
    learned: dict[str, dict[str, Any]],
    densities: dict[str, dict[str, dict[str, Any]]],
) -> None:
    """Write ``two_stage.json``, and print the closing table and where everything is.

    Args:
        directory: the run directory.
        header: ``dataset``, ``representation``, ``seed`` and ``version``.
        learned: what `learn_encoders` has returned.
        densities: of each density, the metrics of each task.
    """
    found = {
        name: {"tasks": tasks, "mean": mean_metrics(tasks)} for name, tasks in densities.items()
    }
    content = {**header, "stage1": learned, "densities": found}
    write_whole(directory / "two_stage.json", to_json(content))
    spent = sum(facts["seconds"] for facts in learned.values())
    title = (
        f"{header['representation']} on {header['dataset']}, seed {header['seed']}, stage 1 in "
        f"{spent:.0f} s (means over {len(learned)} tasks, per cent)"
    )
    console = Console()
    console.print(stages_table(title, densities))
    console.print(f"backbones: {directory / BACKBONES}", soft_wrap=True)
    console.print(f"runs:      {directory / DENSITIES}/*", soft_wrap=True)
