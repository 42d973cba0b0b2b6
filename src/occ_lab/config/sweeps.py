"""The jobs of a Hydra multirun: failures are recorded, and a table is printed at the end."""

from __future__ import annotations

import logging
import math
import shlex
import subprocess
import sys
import traceback
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig

from occ_lab.config.errors import UserError, messages_alone, user_messages
from occ_lab.config.typed import quoted
from occ_lab.utils.exclusive import exclusive
from occ_lab.utils.files import FAILURE, write_whole
from occ_lab.utils.memo import Memo
from occ_lab.utils.plain import read_json

log = logging.getLogger(__name__)

SHOWN = 30  # lines at the end of the output of a job's own process
SHARED_MB = 1000  # what the jobs of a multirun in one process keep for each other


def perform(
    work: Callable[[DictConfig, Path], object], cfg: DictConfig, module: str = "occ_lab.train"
) -> float | None:
    """Do the work of a command in its output directory.

    In a multirun, a failure is written to ``error.txt`` there, and the other jobs go on. A job that
    uses several processes gets a process of its own: Lightning starts the others by repeating the
    command, which must be that of the job, not that of the multirun.

    Args:
        work: what the command does with its configuration and output directory.
        cfg: the configuration.
        module: the name of the command, as after ``python -m``.

    Returns:
        In a multirun the mean image AUROC of the job, which a sweeper may maximise, or NaN if the
        job failed or has none; otherwise None.

    Raises:
        SystemExit: outside a multirun, in place of an `InputError`.
    """
    hydra = HydraConfig.get()
    directory = Path(hydra.runtime.output_dir)
    if hydra.mode != RunMode.MULTIRUN:
        with messages_alone(), exclusive(directory):
            work(cfg, directory)
        return None
    failure = directory / FAILURE
    failure.unlink(missing_ok=True)
    try:
        if on_several_processes(cfg):
            in_own_process(module, repeated(hydra), directory)
        else:
            from occ_lab.config.launchers import one_gpu, use_own_cores  # they import torch

            use_own_cores(hydra.launcher)
            with one_gpu(Path(hydra.sweep.dir)), user_messages(), exclusive(directory):
                work(cfg, directory)
    except Exception as error:
        whole = str(error) if isinstance(error, UserError) else traceback.format_exc()
        named = "" if isinstance(error, UserError) else f"{type(error).__name__}: "
        summary = f"{named}{error}".splitlines()[0]
        write_whole(failure, f"{summary}\n\n{whole.rstrip()}\n")
        log.error("job %s failed: %s", hydra.job.num, summary)
        return math.nan
    results = directory / "metrics.json"
    if not results.is_file():
        return math.nan
    mean = read_json(results)["mean"]
    return float(mean.get("image_auroc", math.nan))


@cache
def _of_process() -> Memo:
    return Memo(SHARED_MB)


def shared_by_jobs() -> Memo | None:
    """What the jobs of a multirun in this process share; None for a single run."""
    return _of_process() if HydraConfig.get().mode == RunMode.MULTIRUN else None


def on_several_processes(cfg: DictConfig) -> bool:
    """Whether Lightning may start further processes for a job."""
    trainer: Any = cfg.get("trainer") or {}
    return trainer.get("devices", 1) not in (1, "1") or trainer.get("num_nodes", 1) != 1


def repeated(hydra: Any) -> list[str]:
    """The arguments of a command that does a job of a multirun again, from the same files."""
    folders = [
        f"--config-dir={source.path}"
        for source in hydra.runtime.config_sources
        if source.provider == "command-line"
    ]
    paths = [each for each in hydra.overrides.hydra if each.startswith("hydra.searchpath=")]
    return [*folders, *hydra.overrides.task, *paths]


def in_own_process(module: str, arguments: list[str], directory: Path) -> None:
    """Repeat a job as a single run into its directory.

    Raises:
        RuntimeError: it failed; the message is the end of its output.
    """
    # An experiment may make multiruns of all commands that name it; this one is a single run.
    alone = ["hydra.mode=RUN", f"hydra.run.dir={quoted(str(directory))}"]
    command = [sys.executable, "-m", module, *arguments, *alone]
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True, errors="replace", check=False)
    sys.stderr.write(done.stderr)
    if done.returncode:
        end = "\n".join(done.stderr.splitlines()[-SHOWN:])
        raise RuntimeError(f"exit code {done.returncode} of its process\n{end}")


class ClosingTable(Callback):
    """Prints the table of a multirun; the exit code is 1 if a job failed or is missing."""

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Print the table of all jobs in the sweep's directory, and free what they shared."""
        from rich.console import Console

        from occ_lab.reporting.tables.sweep import jobs_of, ranking, sweep_table

        _of_process.cache_clear()
        jobs = jobs_of(Path(config.hydra.sweep.dir))
        console = Console()
        if any(job.metrics for job in jobs):
            console.print(sweep_table(ranking(jobs)))
        console.print(f"sweep directory: {config.hydra.sweep.dir}", soft_wrap=True)
        failed = [job for job in jobs if job.problem]
        for job in failed:
            console.print(
                f"job {job.name} ({job.label}): {job.problem}", soft_wrap=True, markup=False
            )
        if failed:
            again = shlex.quote(f"hydra.sweep.dir={config.hydra.sweep.dir}")
            console.print(
                f"{len(failed)} of {len(jobs)} jobs are not finished; the same command with "
                f"resume=true {again} runs these",
                soft_wrap=True,
                markup=False,
            )
            raise SystemExit(1)
