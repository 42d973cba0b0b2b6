"""A run, as the configuration of ``occ_lab.train`` describes it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from rich.console import Console

import occ_lab
from occ_lab.config.composition import resolved
from occ_lab.config.errors import UserError
from occ_lab.config.job import make_job
from occ_lab.config.process import prepare_process
from occ_lab.config.watcher import watched
from occ_lab.engine.fit import fitted
from occ_lab.engine.run import Fit, print_results, run
from occ_lab.reporting.record import RunRecord, holds_tasks
from occ_lab.utils.errors import InputError
from occ_lab.utils.memo import Memo


def perform_run(
    cfg: DictConfig, directory: Path, fit: Fit = fitted, shared: Memo | None = None
) -> dict[str, dict[str, Any]]:
    """Fit and test every task that ``cfg.dataset`` selects; write all into ``directory``.

    Args:
        cfg: the configuration of ``occ_lab.train``.
        directory: the run directory.
        fit: what makes a fitted and tested detector of a task, see `occ_lab.engine.run.run`.
        shared: what this run shares with others in the process; None shares nothing.

    Returns:
        The metrics of each task, as in ``metrics.json``; an empty dict on non-zero ranks.

    Raises:
        UserError: a value out of range, absent data, or a file that cannot be used; before any
            work on the task concerned.
    """
    cfg = resolved(cfg)
    prepare_process(cfg)
    try:
        job = make_job(cfg, shared=shared)
    except (UserError, ValueError) as error:
        finished = finished_run(cfg, directory)
        if finished is None:
            raise
        print_finished(finished, cfg.published, error)
        return finished.finished
    record = RunRecord(directory, header(cfg), settings(cfg), bool(cfg.resume))
    with watched(cfg, directory, record.leads) as watcher:
        figures = run(job, record, watcher, cfg.published, fit)
    if any("calibration" in each for each in figures.values()):
        task = " task=NAME" if len(figures) > 1 else ""
        Console(highlight=False, markup=False, soft_wrap=True).print(
            f"new images:    occ-lab predict run={directory}{task} input=FOLDER"
        )
    return figures


def finished_run(cfg: DictConfig, directory: Path) -> RunRecord | None:
    """What a run that is resumed has finished with the same settings; None without any."""
    if not cfg.resume or not holds_tasks(directory):
        return None
    try:
        return RunRecord(directory, header(cfg), settings(cfg), resume=True)
    except InputError:
        return None


def print_finished(
    finished: RunRecord, published: Mapping[str, Any] | None, reason: Exception
) -> None:
    """Print the results of a run that cannot go on, and why it cannot."""
    console = Console(quiet=not finished.leads, highlight=False, markup=False)
    print_results(finished, finished.finished, published, console)
    console.print(
        f"these are the tasks that were finished before; none can be added: "
        f"{str(reason).splitlines()[0]}",
        soft_wrap=True,
    )


def header(cfg: DictConfig) -> dict[str, Any]:
    """What stands above the tasks in ``metrics.json``."""
    return {
        "dataset": cfg.dataset.name,
        "loss": cfg.loss.name,
        "backbone": cfg.backbone.name,
        "seed": cfg.seed,
        "train_limit": cfg.dataset.get("train_limit"),
        "contamination": cfg.dataset.get("contamination", 0),
        "protocol": cfg.dataset.get("protocol", "separate"),
        "aupro_limit": cfg.scoring.aupro_limit,
        "version": occ_lab.__version__,
    }


def settings(cfg: DictConfig) -> dict[str, Any]:
    """A resolved configuration as plain data."""
    content = OmegaConf.to_container(cfg, throw_on_missing=False)
    assert isinstance(content, dict)
    content.pop("task", None)  # it differs from task to task
    return {str(key): value for key, value in content.items()}
