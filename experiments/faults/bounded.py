"""Try a function on many files, in a process with limited memory and time."""

from __future__ import annotations

import json
import os
import resource
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from experiments.faults.crashes import Counted, started

SECONDS = 20.0  # the time limit per file
PATIENCE = 90  # seconds without any result, after which the process counts as hung
MEMORY = 3 * 2**30  # bytes in addition to what the process already uses

Outcome: TypeAlias = Callable[[Path], str]


def tried(outcome: Outcome, paths: Sequence[Path], results: Path) -> dict[str, str]:
    """The outcome of each file or folder, by its name.

    Args:
        outcome: a function of a module that returns the outcome. An exception is an outcome, too.
        paths: paths with different names.
        results: a file that does not exist yet.
    """
    while left := [path for path in paths if path.name not in noted(results)]:
        process = started(try_each, outcome, left, results)
        done = -1
        while process.exitcode is None and done < len(noted(results)):
            done = len(noted(results))
            process.join(PATIENCE)
        if process.exitcode is None:
            process.kill()
            process.join()
        if process.exitcode:  # it was working on the first path without an outcome
            at_work = next(path for path in left if path.name not in noted(results))
            note(results, at_work, f"the process hung or died ({process.exitcode})")
    return noted(results)


def try_each(outcome: Outcome, paths: Sequence[Path], results: Path) -> None:
    """Record the outcome of each path; the process then ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # libraries print warnings about damage
    pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[0]
    own = int(pages) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (own + MEMORY, own + MEMORY))
    for path in paths:
        begun = time.perf_counter()
        try:
            found = outcome(path)
        except BaseException as error:
            found = f"{type(error).__name__}: {str(error)[:200]}"
        seconds = time.perf_counter() - begun
        note(results, path, found if seconds < SECONDS else f"took {seconds:.0f} s")
    os._exit(0)


def note(results: Path, path: Path, found: str) -> None:
    """Record the outcome of a path."""
    with results.open("a", encoding="utf-8") as file:
        file.write(json.dumps([path.name, found]) + "\n")


def noted(results: Path) -> dict[str, str]:
    """The recorded outcomes so far, by the name of the path."""
    if not results.is_file():
        return {}
    lines = results.read_text(encoding="utf-8").splitlines()
    found: list[Any] = [json.loads(line) for line in lines]
    return dict(found)


def counted(found: dict[str, str], good: Sequence[str]) -> tuple[Counted, dict[str, int]]:
    """Count the outcomes; all that are not among the good ones count as lost."""
    total = Counted(len(found))
    outcomes = dict.fromkeys(good, 0)
    for name, each in sorted(found.items()):
        if each in outcomes:
            outcomes[each] += 1
        else:
            total.lost.append(f"{name}: {each}")
    return total, outcomes
