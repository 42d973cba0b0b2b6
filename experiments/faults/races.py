"""Several processes at the same time: with one cache, or in one run directory."""

from __future__ import annotations

from pathlib import Path

from experiments.faults.cases import CASES, train
from experiments.faults.crashes import Counted, attempt, content, last_line, prepare, started

PATIENCE = 600  # seconds


def together(given: Path, outs: list[Path], said: Path) -> list[int | None]:
    """The exit codes of runs that are started at the same time, one for each output folder."""
    processes = []
    for number, out in enumerate(outs):
        own = said / str(number)
        own.mkdir(parents=True)
        out.mkdir(parents=True, exist_ok=True)
        processes.append(started(attempt, train, given, out, None, own))
    for process in processes:
        process.join(PATIENCE)
        if process.exitcode is None:
            process.kill()
    return [process.exitcode for process in processes]


def in_one_cache(count: int, base: Path) -> Counted:
    """Runs in different directories that need the same features, which are not cached yet."""
    given = prepared(base)
    for path in sorted((given / "cache").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    outs = [base / f"out{number}" for number in range(count)]
    codes = together(given, outs, base / "said")
    found = [content(out) for out in outs]
    wanted = content(given / "once")
    counted = Counted(count)
    for number, (code, each) in enumerate(zip(codes, found, strict=True)):
        if code:
            said = last_line(base / "said" / str(number))
            counted.lost.append(f"one cache, run {number}: exit code {code}; {said}")
        elif each != wanted:
            counted.lost.append(f"one cache, run {number}: other results")
    return counted


def in_one_directory(count: int, base: Path) -> Counted:
    """Runs of one command in one directory: one run works, and the others exit with a message."""
    given = prepared(base)
    codes = together(given, [base / "out"] * count, base / "said")
    counted = Counted(count)
    if 0 not in codes:
        counted.lost.append(f"one directory: exit codes {codes}")
    for number, code in enumerate(codes):
        said = (base / "said" / str(number) / "output").read_text(encoding="utf-8")
        if code and "another run is working in" not in said:
            line = last_line(base / "said" / str(number))
            counted.lost.append(f"one directory, run {number}: exit code {code}; {line}")
    if content(base / "out") != content(given / "once"):
        counted.lost.append("one directory: other results")
    return counted


def prepared(base: Path) -> Path:
    """The input of the runs, and in ``once`` the output of an undisturbed run."""
    prepare(CASES["train"], base / "given")
    return base / "given"
