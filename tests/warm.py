"""Processes that start with the slow libraries already imported: torch, Lightning, timm, ours.

One process of `multiprocessing.forkserver` imports them once; each that is started here is a fork
of it. Importing them takes longer than most of what the tests do.
"""

from __future__ import annotations

import atexit
import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning.fabric.plugins.environments.lightning import find_free_network_port

PATIENCE = 300  # seconds
IMPORTED = [
    "hydra.main",
    "lightning.pytorch.callbacks",
    "matplotlib.figure",
    "occ_lab.config.command_line",
    "occ_lab.config.compare",
    "occ_lab.config.export",
    "occ_lab.config.norm_study",
    "occ_lab.config.serve",
    "occ_lab.config.stream",
    "occ_lab.config.two_stage",
    "occ_lab.reporting.report.write",
    "occ_lab.reporting.tables.sweep",
]


def started(work: Callable[..., Any], *arguments: Any) -> Any:
    """A process that calls ``work``, a function of a module."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(IMPORTED)
    process = context.Process(target=work, args=arguments)
    process.start()
    return process


def run(
    arguments: Sequence[str], cwd: Path | None = None, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """``python ARGUMENTS``, of the form ``-m MODULE ...`` or ``SCRIPT ...``.

    Args:
        arguments: without ``python``.
        cwd: where it runs.
        environment: all of it; by default that of this process.
    """
    (done,) = together(arguments, cwd, [os.environ if environment is None else environment])
    return done


def run_in_two(
    arguments: Sequence[str], cwd: Path | None = None, environment: Mapping[str, str] | None = None
) -> list[subprocess.CompletedProcess[str]]:
    """`run` in two processes, which are those of a Trainer with ``devices=2, strategy="ddp"``.

    They have the environment that Lightning gives to processes which it starts itself.
    """
    group = {
        **(os.environ if environment is None else environment),
        **{"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(find_free_network_port())},
        **{"NODE_RANK": "0", "WORLD_SIZE": "2"},
    }
    return together(arguments, cwd, [{**group, "LOCAL_RANK": rank} for rank in "01"])


def together(
    arguments: Sequence[str], cwd: Path | None, environments: Sequence[Mapping[str, str]]
) -> list[subprocess.CompletedProcess[str]]:
    """`run` at once in a process for each environment."""
    with tempfile.TemporaryDirectory() as folder:
        processes, outputs = [], []
        for number, environment in enumerate(environments):
            own = Path(folder, str(number))
            own.mkdir()
            own_environment = {**environment, "TMPDIR": str(own)}  # so that nothing is left behind
            outputs.append([own / name for name in ("stdout", "stderr")])
            where = str(cwd or Path.cwd())
            processes.append(started(as_main, list(arguments), where, own_environment, outputs[-1]))
        for process in processes:
            process.join(PATIENCE)
        if any(process.exitcode is None for process in processes):
            for process in processes:
                process.kill()
            raise subprocess.TimeoutExpired(list(arguments), PATIENCE)
        return [
            subprocess.CompletedProcess(
                list(arguments),
                process.exitcode,
                *(path.read_text(encoding="utf-8", errors="replace") for path in paths),
            )
            for process, paths in zip(processes, outputs, strict=True)
        ]


def as_main(
    arguments: list[str], cwd: str, environment: Mapping[str, str], outputs: Sequence[Path]
) -> None:
    """Act as the process of a command: its folder, environment, output and exit code."""
    atexit._clear()  # of what was imported, for all
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    tempfile.tempdir = None  # of the first process
    inherited = environment.get("PYTHONPATH", "").split(os.pathsep)
    sys.path[:0] = [each for each in inherited if each and each not in sys.path]
    for number, path in enumerate(outputs, start=1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), number)
    sys.stdout, sys.stderr = (
        os.fdopen(number, "w", encoding="utf-8", errors=errors, buffering=1, closefd=False)
        for number, errors in ((1, "strict"), (2, "backslashreplace"))
    )
    code: Any = 0
    try:
        if arguments[0] == "-m":
            sys.argv = arguments[1:]
            runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
        else:
            sys.argv = list(arguments)
            sys.path.insert(0, str(Path(arguments[0]).parent))
            runpy.run_path(arguments[0], run_name="__main__")
    except SystemExit as error:
        code = error.code
    except BaseException:
        traceback.print_exc()
        code = 1
    if code is not None and not isinstance(code, int):
        sys.stderr.write(f"{code}\n")
        code = 1
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code or 0)
