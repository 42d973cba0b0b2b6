"""Weights & Biases: one W&B run for each run, with a section for each task."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from lightning.pytorch.loggers import WandbLogger

from occ_lab.metrics.curves import precision_recall, roc, thinned
from occ_lab.reporting.record import METRICS, mean_metrics
from occ_lab.utils.errors import InputError

POINTS = 200  # of a curve


class TaskLogger(WandbLogger):
    """Logs a task to the open W&B run, or to one of its own.

    Args:
        prefix: names begin with it and a slash, which W&B shows as a section for each task.
        settings: arguments of ``wandb.init`` if no W&B run is open, such as ``project``, ``entity``
            and ``tags``.
    """

    LOGGER_JOIN_CHAR = "/"

    def __init__(self, prefix: str, **settings: Any) -> None:
        import wandb

        super().__init__(prefix=prefix, experiment=wandb.run, **settings)


class Tracking:
    """Sends the results of a run to W&B.

    Args:
        wandb: the W&B run; with None, nothing is sent.
    """

    def __init__(self, wandb: Any) -> None:
        self.wandb = wandb

    def task_ended(
        self, task: str, scores: np.ndarray, labels: np.ndarray, pictures: list[Path]
    ) -> None:
        """Send the curves and the heatmap pictures of a task.

        Args:
            task: its name.
            scores: the scores of its test images, float ``[N]``.
            labels: ``[N]``, 1 anomalous.
            pictures: image files.
        """
        if self.wandb is None:
            return
        import wandb

        logged: dict[str, Any] = {}
        if len(np.unique(labels)) == 2:
            false, true = roc(scores, labels)
            logged[f"{task}/roc"] = line(false, true, "false positive rate", "recall", task)
            recall, precision = precision_recall(scores, labels)
            logged[f"{task}/precision_recall"] = line(
                recall, precision, "recall", "precision", task
            )
        if pictures:
            logged[f"{task}/maps"] = [wandb.Image(str(path)) for path in pictures]
        self.wandb.log(logged)

    def run_ended(self, tasks: dict[str, dict[str, Any]]) -> None:
        """Send the table of all tasks and, as the run's summary, the means of the metrics."""
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
        seconds = sum(sum(figures["seconds"].values()) for figures in tasks.values())
        self.wandb.summary.update({**mean_metrics(tasks), "seconds": seconds})


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

    The W&B runs of a sweep are grouped by the name of its directory. ``WANDB_MODE`` decides whether
    a W&B run goes online; an offline one is stored in ``directory``.

    Args:
        settings: arguments of ``wandb.init``, such as ``project``; None opens no W&B run.
        config: the configuration that W&B shows.
        directory: the run directory.
        leads: whether this process has rank 0; the others open no W&B run.
        job: the W&B run's job type, such as the name of the loss.

    Raises:
        InputError: W&B is not installed.
    """
    if settings is None or not leads:
        yield Tracking(None)
        return
    try:
        import wandb
    except ImportError as error:
        raise InputError(
            "wandb is not installed; pip install 'occ-lab[wandb]'", part="logger"
        ) from error
    in_sweep = (directory.parent / "multirun.yaml").is_file()
    group = directory.parent.name if in_sweep else directory.name
    failed = True
    try:
        run = wandb.init(
            **{
                "name": f"{group}-{directory.name}" if in_sweep else directory.name,
                "group": group,
                "job_type": job,
                "dir": str(directory),
                "config": dict(config),
                **settings,
            }
        )
        yield Tracking(run)
        failed = False
    finally:
        wandb.finish(exit_code=int(failed))  # otherwise the next job would continue this W&B run
