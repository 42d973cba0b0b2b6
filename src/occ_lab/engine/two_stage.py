"""Two-stage one-class classification: an encoder for each task, then densities of its features."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from occ_lab.backbones.learned import SUFFIX, load_encoder
from occ_lab.data.base import Benchmark
from occ_lab.engine.job import NoWatcher, Watcher
from occ_lab.engine.representation import CHECKPOINT, FIGURES, RepresentationPlan, learn
from occ_lab.engine.stopping import resumable
from occ_lab.reporting.record import figures_in, leads, mean_metrics, to_json
from occ_lab.reporting.tables.results import published_line
from occ_lab.reporting.tables.two_stage import stages_table
from occ_lab.utils.errors import InputError
from occ_lab.utils.files import write_whole
from occ_lab.utils.plain import read_json
from occ_lab.utils.scratch import visible

log = logging.getLogger(__name__)

BACKBONES, STAGE1, DENSITIES = "backbones", "stage1", "densities"  # folders of a run directory


def begun(directory: Path) -> bool:
    """Whether a run directory contains an encoder or a stopped training."""
    made = visible(directory, f"{BACKBONES}/*{SUFFIX}")
    return bool(made or visible(directory, f"{STAGE1}/*/{CHECKPOINT}"))


def learn_encoders(
    plan: RepresentationPlan,
    benchmark: Benchmark,
    directory: Path,
    watcher: Watcher | None = None,
) -> dict[str, dict[str, Any]]:
    """Train the encoder of every task that has none yet.

    A trained encoder can be used as ``LearnedBackbone(directory / "backbones")``.

    Args:
        plan: how they are trained.
        benchmark: provides the images.
        directory: the encoders are written to ``backbones/TASK.safetensors`` in it, and their
            training curves to ``stage1/TASK/``.
        watcher: provides loggers and callbacks; None logs nothing.

    Returns:
        The result of `learn` for each task; an empty dict on non-zero ranks.

    Raises:
        SystemExit: Ctrl-C; finished encoders and the last checkpoint are kept.
    """
    watcher = watcher or NoWatcher()
    console = Console(quiet=not leads())
    tasks = benchmark.tasks()
    done: list[str] = []
    with resumable(directory, console, lambda: encoders_done(done, tasks)):
        for number, task in enumerate(tasks, start=1):
            title = f"{plan.name}, {task} ({number} of {len(tasks)})"
            target = directory / BACKBONES / f"{task}{SUFFIX}"
            if leads() and not is_sound(target, directory / STAGE1 / task / FIGURES):
                target.unlink(missing_ok=True)
            if target.is_file():
                console.print(f"{title}: trained before, skipped")
                if leads():  # a process may have been killed just before it removed it
                    (directory / STAGE1 / task / CHECKPOINT).unlink(missing_ok=True)
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
    return {task: read_json(path) for task, path in files.items()}


def is_sound(encoder: Path, figures: Path) -> bool:
    """Whether an encoder and the figures of its training are intact; damage is logged."""
    if not encoder.is_file():
        return False
    try:
        load_encoder(encoder)
        figures_in(figures)
    except (InputError, OSError) as error:
        log.warning("%s; it is trained again", error)
        return False
    return True


def encoders_done(done: list[str], tasks: list[str]) -> str:
    """The number of finished encoders, in words."""
    return f"{len(done)} of {len(tasks)} encoders are finished."


def keep_curve(folder: Path) -> None:
    """Rename the curve of a stopped training, because a logger overwrites its file."""
    curve = folder / "metrics.csv"
    if curve.is_file():
        earlier = len(list(folder.glob("metrics.*.csv")))
        curve.rename(folder / f"metrics.{earlier + 1}.csv")


def report(
    directory: Path,
    header: Mapping[str, Any],
    learned: dict[str, dict[str, Any]],
    densities: dict[str, dict[str, dict[str, Any]]],
    published: Mapping[str, Any] | None = None,
) -> None:
    """Write ``two_stage.json``, and print the final table and where to find the results.

    Args:
        directory: the run directory.
        header: ``dataset``, ``representation``, ``seed`` and ``version``.
        learned: the result of `learn_encoders`.
        densities: for each density, the metrics of each task.
        published: as for `stages_table`, and their ``source``.
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
    console.print(stages_table(title, densities, published))
    if line := published_line(published):
        console.print(line, soft_wrap=True)
    console.print(f"backbones: {directory / BACKBONES}", soft_wrap=True)
    console.print(f"runs:      {directory / DENSITIES}/*", soft_wrap=True)
