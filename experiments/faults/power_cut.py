"""A power cut: a run continues with a copy of the disk that was taken while it was writing.

The disk is a file with an ext4 file system, mounted by a loop device. A copy contains what has
reached the disk so far, and nothing that the system still holds in memory.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from experiments.faults.cases import CASES, train
from experiments.faults.crashes import (
    Counted,
    attempt,
    content,
    in_own_process,
    last_line,
    prepare,
    started,
)

MEGABYTES = 64
PATIENCE = 300  # seconds


class NotAllowedError(Exception):
    """The reason why no disk can be mounted here."""


@contextmanager
def mounted(disk: Path, at: Path) -> Iterator[Path]:
    """Mount a disk image as a folder.

    Raises:
        NotAllowedError: it cannot be mounted here.
    """
    at.mkdir(parents=True)
    call("mount", "-o", "loop", str(disk), str(at))
    try:
        yield at
    finally:
        subprocess.run(["umount", str(at)], check=False, capture_output=True)


def call(*command: str) -> None:
    """Run a program of the system.

    Raises:
        NotAllowedError: the program does not exist, or it fails.
    """
    try:
        done = subprocess.run(command, check=False, capture_output=True, text=True)
    except OSError as error:
        raise NotAllowedError(f"{command[0]}: {error.strerror}") from error
    if done.returncode:
        raise NotAllowedError(f"{command[0]}: {done.stderr.strip().splitlines()[-1:]}")


def power_cuts(count: int, base: Path) -> Counted:
    """Cut the power at moments spread over a run; then run it again on what is left.

    Raises:
        NotAllowedError: no disk can be mounted here.
    """
    given, disk, said = base / "given", base / "disk", base / "said"
    prepare(CASES["train"], given)
    wanted = content(given / "once")
    with disk.open("wb") as file:
        file.truncate(MEGABYTES * 2**20)
    call("mkfs.ext4", "-q", str(disk))
    said.mkdir()
    copies = []
    with mounted(disk, base / "mounted") as out:
        process = started(attempt, train, given, out, None, said)
        seen = ""
        begun = time.monotonic()
        while process.exitcode is None and time.monotonic() < begun + PATIENCE:
            names = " ".join(sorted(str(path) for path in out.rglob("*")))
            if names != seen and len(copies) < count:  # a new name has appeared
                seen = names
                copies.append(base / f"disk{len(copies)}")
                copied(disk, copies[-1])
            process.join(0.01)
        copies.append(base / "last")  # immediately after the end
        copied(disk, copies[-1])
    counted = Counted()
    for number, copy in enumerate(copies):
        counted.injected += 1
        with mounted(copy, base / f"left{number}") as out:
            lost = out / "lost+found"
            for path in (said / "output", said / "changes"):
                path.unlink(missing_ok=True)
            code = in_own_process(train, given, out, None, said)
            if lost.is_dir():
                lost.rmdir()
            found = content(out)
            if code:
                counted.lost.append(f"power cut {number}: exit code {code}; {last_line(said)}")
            elif found != wanted:
                names = [
                    name for name in {**found, **wanted} if found.get(name) != wanted.get(name)
                ]
                counted.lost.append(f"power cut {number}: {names[0]} differs")
        copy.unlink()
    return counted


def copied(disk: Path, copy: Path) -> None:
    """Copy the content of the disk; only what the system has written to the disk's file counts."""
    shutil.copyfile(disk, copy)
    os.sched_yield()
