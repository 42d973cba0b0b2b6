"""Weights & Biases: one W&B run for each run, with a section for each task."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from lightning.pytorch.loggers import WandbLogger

from occ_lab.metrics.curves import precision_recall, roc, thinned
from occ_lab.reporting.predictions import COLUMNS, Predictions
from occ_lab.reporting.record import METRICS, mean_metrics
from occ_lab.utils.errors import InputError, check_number
from occ_lab.utils.scratch import visible

log = logging.getLogger(__name__)

POINTS = 200  # of a curve
LEVELS = 3  # of folders from a run up to its sweep, as of SWEEP/0/methods/norm
FIGURES = ("metrics.json", "scores.csv")
SETTINGS = ("config.yaml", "tasks/*/calibration.json")  # to load a checkpoint with its threshold


@dataclass(frozen=True)
class Limits:
    """How much of a run is sent to W&B.

    Args:
        rows: the largest number of test images of a task in the table of predictions, at least 0.
        checkpoints_mb: the largest size of the checkpoints of a run in MB, at least 0; larger ones
            are not sent.

    Raises:
        ValueError: a value is out of range.
    """

    rows: int = 1000
    checkpoints_mb: float = 500

    def __post_init__(self) -> None:
        check_number("rows", self.rows, at_least=0, integer=True)
        check_number("checkpoints_mb", self.checkpoints_mb, at_least=0)


class TaskLogger(WandbLogger):
    """Logs a task to the open W&B run, or to one of its own.

    Args:
        prefix: names begin with it and a slash, which W&B shows as a section for each task.
        settings: `Limits`, which are checked here and used by `Tracking`, and arguments of
            ``wandb.init`` if no W&B run is open, such as ``project``, ``entity`` and ``tags``.

    Raises:
        ValueError: a limit is out of range.
    """

    LOGGER_JOIN_CHAR = "/"

    def __init__(self, prefix: str, **settings: Any) -> None:
        import wandb

        _, arguments = divided(settings)
        super().__init__(prefix=prefix, experiment=wandb.run, **arguments)


class Tracking:
    """Sends the results of a run to W&B.

    Args:
        wandb: the W&B run; with None, nothing is sent.
        directory: the run directory.
        limits: how much is sent.
    """

    def __init__(self, wandb: Any, directory: Path, limits: Limits | None = None) -> None:
        self.wandb = wandb
        self.directory = directory
        self.limits = limits or Limits()
        self._rows: list[list[Any]] = []

    def task_ended(self, found: Predictions) -> None:
        """Send the curves and the heatmap pictures of a task."""
        if self.wandb is None:
            return
        import wandb

        task, scores, labels = found.task, found.scores, found.labels
        logged: dict[str, Any] = {}
        if len(np.unique(labels)) == 2:
            false, true = roc(scores, labels)
            logged[f"{task}/roc"] = line(false, true, "false positive rate", "recall", task)
            recall, precision = precision_recall(scores, labels)
            logged[f"{task}/precision_recall"] = line(
                recall, precision, "recall", "precision", task
            )
        pictures = {
            index: wandb.Image(str(path), caption=found.caption(index))
            for index, path in found.pictured.items()
        }
        if pictures:
            logged[f"{task}/maps"] = list(pictures.values())
        self.wandb.log(logged)
        self._rows += [
            [*(row[name] for name in COLUMNS), pictures.get(row["index"])]
            for row in found.rows(self.limits.rows)
        ]

    def run_ended(self, tasks: dict[str, dict[str, Any]]) -> None:
        """Send the tables, the artifacts and, as the run's summary, the means of the metrics.

        There is a table of all tasks, and one of the predictions of those that this process has
        tested.
        """
        if self.wandb is None:
            return
        import wandb

        columns: list[str | int] = ["task", *METRICS, "seconds", "n_train", "n_test"]
        rows = [
            [
                name,
                *(figures.get(metric) for metric in METRICS),
                sum(figures["seconds"].values()),
                figures["n_train"],
                figures["n_test"],
            ]
            for name, figures in tasks.items()
        ]
        self.wandb.log({"tasks": wandb.Table(columns, rows)})
        if self._rows:
            self.wandb.log({"predictions": wandb.Table([*COLUMNS, "heatmap"], self._rows)})
        means = mean_metrics(tasks)
        seconds = sum(sum(figures["seconds"].values()) for figures in tasks.values())
        self.wandb.summary.update({**means, "seconds": seconds})
        self._send("metrics", self._files(*FIGURES), means)
        checkpoints = self._files("tasks/*/checkpoints/*.ckpt")
        size = sum(path.stat().st_size for path in checkpoints) / 1e6
        if size > self.limits.checkpoints_mb:
            log.warning(
                "the checkpoints have %.0f MB and are not sent to W&B; "
                "logger.wandb.checkpoints_mb=%.0f sends them",
                size,
                np.ceil(size),
            )
        elif checkpoints:
            self._send("model", [*self._files(*FIGURES, *SETTINGS), *checkpoints], means)

    def _files(self, *patterns: str) -> list[Path]:
        return [path for pattern in patterns for path in visible(self.directory, pattern)]

    def _send(self, kind: str, paths: list[Path], about: Mapping[str, Any]) -> None:
        """Send files of the run directory as an artifact in which they have the same paths."""
        import wandb

        artifact = wandb.Artifact(f"{kind}-{self.wandb.id}", kind, metadata=dict(about))
        for path in paths:
            # A checkpoint never changes: it is sent from where it is, not copied before.
            fixed = path.suffix == ".ckpt"
            name = path.relative_to(self.directory).as_posix()
            artifact.add_file(
                str(path), name, policy="immutable" if fixed else "mutable", skip_cache=True
            )
        self.wandb.log_artifact(artifact)


def line(x: np.ndarray, y: np.ndarray, x_title: str, y_title: str, task: str) -> Any:
    """A W&B chart of a curve with at most ``POINTS`` points."""
    import wandb

    points = np.stack(thinned(x, y, POINTS), axis=1).tolist()
    table = wandb.Table([x_title, y_title], points)
    return wandb.plot.line(table, x_title, y_title, title=f"{task}: {y_title} over {x_title}")


@contextmanager
def tracked(
    settings: Mapping[str, Any] | None,
    config: Mapping[str, Any],
    directory: Path,
    leads: bool,
    job: str,
) -> Iterator[Tracking]:
    """The W&B run that belongs to a run; it is finished when the block ends.

    The W&B runs of one command are grouped by the name of its directory: those of the jobs of a
    sweep, of the methods of a comparison, of the densities of a second stage. ``WANDB_MODE``
    decides whether a W&B run goes online; an offline one is stored in ``directory``.

    Args:
        settings: `Limits`, and arguments of ``wandb.init``, such as ``project``; None opens no W&B
            run.
        config: the configuration that W&B shows.
        directory: the run directory.
        leads: whether this process has rank 0; the others open no W&B run.
        job: the W&B run's job type, such as the name of the loss.

    Raises:
        InputError: W&B is not installed.
    """
    if settings is None or not leads:
        yield Tracking(None, directory)
        return
    try:
        import wandb
    except ImportError as error:
        raise InputError(
            "wandb is not installed; pip install 'occ-lab[wandb]'", part="logger"
        ) from error
    limits, arguments = divided(settings)
    top = top_of(directory)
    name = "-".join([top.name, *directory.absolute().relative_to(top).parts])
    failed = True
    try:
        run = wandb.init(
            **{
                "name": name,
                "group": top.name,
                "job_type": job,
                "dir": str(directory),
                "config": dict(config),
                **arguments,
            }
        )
        yield Tracking(run, directory, limits)
        failed = False
    finally:
        wandb.finish(exit_code=int(failed))  # otherwise the next job would continue this W&B run


def divided(settings: Mapping[str, Any]) -> tuple[Limits, dict[str, Any]]:
    """The limits among settings, and the others, which are arguments of ``wandb.init``.

    Raises:
        ValueError: a limit is out of range.
    """
    names = {each.name for each in fields(Limits)}
    limits = Limits(**{name: value for name, value in settings.items() if name in names})
    return limits, {name: value for name, value in settings.items() if name not in names}


def top_of(directory: Path) -> Path:
    """The directory of the command that a run is a part of, which may be the run's own.

    It is that of the sweep if there is one, and otherwise the one with Hydra's record.
    """
    directory = directory.absolute()
    above = [directory, *directory.parents[:LEVELS]]
    for mark in ("multirun.yaml", ".hydra"):
        for folder in above:
            if (folder / mark).exists():
                return folder
    return directory
