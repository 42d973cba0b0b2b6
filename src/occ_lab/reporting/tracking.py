"""Loggers of a run: CSV files always, Weights & Biases on request."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from lightning.pytorch.loggers import CSVLogger, Logger, WandbLogger
from omegaconf import DictConfig, OmegaConf
from sklearn.metrics import precision_recall_curve, roc_curve

from occ_lab.metrics.curves import thinned
from occ_lab.reporting.record import METRICS, mean_metrics
from occ_lab.utils.errors import InputError

POINTS = 200  # of a curve


class TaskLogger(WandbLogger):
    """Names begin with the task's and a slash, by which W&B makes a section of each task."""

    LOGGER_JOIN_CHAR = "/"


class Tracking:
    """Where the tasks of a run log to.

    Args:
        csv: whether each task keeps its log as a file.
        wandb: the W&B run, or None.
    """

    def __init__(self, csv: bool, wandb: Any) -> None:
        self.csv = csv
        self.wandb = wandb

    def loggers(self, task: str, folder: Path) -> list[Logger]:
        """The loggers of a task: a file in ``folder``; in W&B, names that begin with the task's."""
        loggers: list[Logger] = []
        if self.csv:
            loggers.append(CSVLogger(folder, name="", version="", prefix=""))
        if self.wandb is not None:
            loggers.append(TaskLogger(experiment=self.wandb, prefix=task))
        return loggers

    def task_ended(
        self, task: str, scores: np.ndarray, labels: np.ndarray, pictures: list[Path]
    ) -> None:
        """Send the curves and the heatmap pictures of a task.

        Args:
            task: its name.
            scores: of its test images, float ``[N]``.
            labels: ``[N]``, 1 anomalous.
            pictures: image files.
        """
        if self.wandb is None:
            return
        import wandb

        logged: dict[str, Any] = {}
        if len(np.unique(labels)) == 2:
            false, true, _ = roc_curve(labels, scores)
            logged[f"{task}/roc"] = line(false, true, "false positive rate", "recall", task)
            precision, recall, _ = precision_recall_curve(labels, scores)
            logged[f"{task}/precision_recall"] = line(
                recall[::-1], precision[::-1], "recall", "precision", task
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
    """A W&B chart of a curve, of which at most ``POINTS`` points are kept."""
    import wandb

    points = np.stack(thinned(x, y, POINTS), axis=1).tolist()
    table = wandb.Table([x_title, y_title], points)
    return wandb.plot.line(table, x_title, y_title, title=f"{task}: {y_title} over {x_title}")


@contextmanager
def tracked(cfg: DictConfig, directory: Path, leads: bool, job: str) -> Iterator[Tracking]:
    """The loggers of a run, closed when the block ends.

    A run of ours is a W&B run; those of a sweep are a group by the name of its directory.
    ``WANDB_MODE`` says whether it goes online; an offline run lies in ``directory``.

    Args:
        cfg: the whole configuration; ``cfg.logger`` says which loggers.
        directory: of the run.
        leads: whether this process is the first of those of the run, which alone has a W&B run.
        job: the W&B run's job type: the name of the loss.

    Raises:
        InputError: W&B is asked for and not installed.
    """
    if cfg.logger.wandb is None or not leads:
        yield Tracking(cfg.logger.csv, None)
        return
    try:
        import wandb
    except ImportError as error:
        raise InputError("logger: wandb is not installed; pip install 'occ-lab[wandb]'") from error
    in_sweep = (directory.parent / "multirun.yaml").is_file()
    group = directory.parent.name if in_sweep else directory.name
    config = OmegaConf.to_container(cfg, resolve=True)
    assert isinstance(config, dict)
    failed = True
    try:
        run = wandb.init(
            name=f"{group}-{directory.name}" if in_sweep else directory.name,
            group=group,
            job_type=job,
            dir=directory,
            config={str(key): value for key, value in config.items()},
            **dict(cfg.logger.wandb),
        )
        yield Tracking(cfg.logger.csv, run)
        failed = False
    finally:
        wandb.finish(exit_code=int(failed))  # else the next job would go on in this W&B run
