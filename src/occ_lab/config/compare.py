"""A comparison of methods, as the configuration of ``occ_lab.compare`` describes it."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

from omegaconf import DictConfig, open_dict
from rich.console import Console

import occ_lab
from occ_lab.config.composition import resolved
from occ_lab.config.errors import UserError, message
from occ_lab.config.job import make_job
from occ_lab.config.methods import method_run, several
from occ_lab.config.train import header, settings
from occ_lab.config.watcher import watched
from occ_lab.engine.compare import METHODS, Comparison, compare, folder_of, measured
from occ_lab.engine.job import Job
from occ_lab.engine.run import run_tasks
from occ_lab.reporting.record import NOT_COMPARED, RunRecord, keep_settings, leads
from occ_lab.utils.allocator import keep_freed_memory
from occ_lab.utils.errors import InputError
from occ_lab.utils.files import check_name
from occ_lab.utils.scratch import visible

SHARED = (  # by all methods
    *("kinds", "dataset", "backbone", "scoring", "cache", "calibration", "trainer"),
    *("callbacks", "logger", "seed", "maps", "resume"),
)


def perform_comparison(cfg: DictConfig, directory: Path) -> Comparison:
    """Run every method on every task that ``cfg.dataset`` selects; write all into ``directory``.

    Args:
        cfg: the configuration of ``occ_lab.compare``.
        directory: of the comparison, see `occ_lab.engine.compare.compare`.

    Raises:
        UserError: an unknown method, a value out of range, absent data, or results that are there
            already; before any work.
        InputError: as of `compare`.
    """
    keep_freed_memory()
    runs = methods_of(cfg)
    jobs = jobs_of(runs)
    own = resolved(cfg)
    if leads():
        begun = bool(visible(directory, f"{METHODS}/*/tasks/*/metrics.json"))
        compared = (*NOT_COMPARED, "methods")
        keep_settings(directory, settings(own), bool(own.resume), begun, compared)
    about = {
        "dataset": own.dataset.name,
        "backbone": own.backbone.name,
        "seed": own.seed,
        "aupro_limit": own.scoring.aupro_limit,
        "version": occ_lab.__version__,
    }
    performs = {name: partial(run_method, runs[name], jobs[name]) for name in runs}
    return compare(performs, directory, about)


def methods_of(cfg: DictConfig) -> dict[str, DictConfig]:
    """The resolved configuration of ``occ_lab.train`` for each method, by its name.

    Raises:
        UserError: there is no such method, or it changes what all share.
    """
    found = {}
    for method in several(cfg, "methods"):
        try:
            check_name("methods", folder_of(method))
        except ValueError as error:
            raise UserError(str(error)) from error
        train = method_run(cfg, "methods", method, SHARED)
        with open_dict(train):
            if train.trainer.max_epochs is None:
                train.trainer.max_epochs = train.loss.fit.epochs
        found[method] = resolved(train)
    return found


def jobs_of(runs: dict[str, DictConfig]) -> dict[str, Job]:
    """The job of each method, all with one benchmark and one backbone.

    Raises:
        UserError: as of `make_job`, or the backbone is trained.
    """
    jobs: dict[str, Job] = {}
    first = None
    for name, run in runs.items():
        made = make_job(run, first.views if first else None)
        if made.backbone.trained:
            raise UserError(
                f"backbone: {made.backbone.name} is trained, so that methods have no features in "
                "common; compare runs of occ_lab.train by `occ-lab report`"
            )
        jobs[name] = replace(made, backbone=first.backbone) if first else made
        first = first or made
    return jobs


def run_method(
    cfg: DictConfig, job: Job, title: str, directory: Path, console: Console
) -> RunRecord:
    """Run a method on every task that is not finished; what is recorded of it.

    Raises:
        InputError: it cannot be run; the message names the key.
    """
    try:
        record = RunRecord(directory, header(cfg), settings(cfg), bool(cfg.resume))
        with watched(cfg, directory, record.leads) as watcher:
            run_tasks(job, record, watcher, console, measured, title)
    except InputError as error:
        raise InputError(message(error)) from error
    return record
