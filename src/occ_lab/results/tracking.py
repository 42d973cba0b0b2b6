"""Loggers of a task: CSV files always, Weights & Biases on request."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import CSVLogger, Logger, WandbLogger
from omegaconf import DictConfig, OmegaConf

from occ_lab.errors import UserError


@contextmanager
def task_loggers(cfg: DictConfig, run: str, task: str, folder: Path) -> Iterator[list[Logger]]:
    """The loggers of one task, closed when the block ends.

    A task is a W&B run of its own, all those of one run of ours being a group; ``WANDB_MODE``
    says whether it goes online, and an offline run lies in ``folder``.

    Args:
        cfg: the whole configuration; ``cfg.logger`` says which loggers.
        run: name of our run, the group of its tasks.
        task: the task's name.
        folder: where log files go.
    """
    loggers: list[Logger] = []
    if cfg.logger.csv:
        loggers.append(CSVLogger(folder, name="", version="", prefix=""))
    if cfg.logger.wandb is None:
        yield loggers
        return
    try:
        import wandb
    except ImportError as error:
        raise UserError("logger: wandb is not installed; pip install 'occ-lab[wandb]'") from error
    settings: dict[str, Any] = dict(cfg.logger.wandb)
    config = OmegaConf.to_container(cfg, resolve=True)
    loggers.append(
        WandbLogger(
            name=f"{run}-{task}",
            group=run,
            job_type=cfg.loss.name,
            save_dir=folder,
            config={**config, "task": task} if isinstance(config, dict) else {},
            **settings,
        )
    )
    failed = True
    try:
        yield loggers
        failed = False
    finally:
        wandb.finish(exit_code=int(failed))  # else the next task would go on in this W&B run


def log_pictures(loggers: list[Logger], paths: list[Path]) -> None:
    """Send heatmap pictures to the loggers that take pictures."""
    for logger in loggers:
        if isinstance(logger, WandbLogger) and paths:
            logger.log_image("maps", [str(path) for path in paths])
