"""Temporary files and folders: hidden names beside their targets, locked while in use.

A killed process leaves its temporary files behind, but the system releases its locks. Any process
that can lock such a file may therefore remove it.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows: nothing is locked, and nothing left behind is removed
    fcntl = None  # type: ignore[assignment]

SCRATCH = re.compile(r"\..+\.[0-9a-z_]{8}")  # also matches the names of earlier versions
# Folders of a run directory that only OCC Lab writes to.
ROOMS = ("tasks", "streams", "training", "stage1", "backbones", "densities", "methods")
OF_A_FILE = re.compile(r"\..+\.(json|csv|yaml|md|html|txt)\.[0-9a-f]{8}")


def visible(folder: Path, pattern: str) -> list[Path]:
    """The paths below a folder that match ``pattern``, sorted, without hidden ones.

    ``Path.glob`` alone would also return the temporary files of a killed process, because ``*``
    matches hidden names too.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as base:
        ...     for name in ("bolt", ".nut.0a1b2c3d"):
        ...         Path(base, "tasks", name).mkdir(parents=True)
        ...     [path.name for path in visible(Path(base), "tasks/*")]
        ['bolt']
    """
    return sorted(
        path
        for path in folder.glob(pattern)
        if not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )


@contextmanager
def scratch_beside(target: Path, folder: bool) -> Iterator[Path]:
    """An empty file or folder beside ``target`` that is locked while the block runs.

    The parents of ``target`` are created. Leftovers of killed processes beside it are removed.

    Args:
        target: the final path of the temporary file or folder.
        folder: whether to make a folder; otherwise a file.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    earlier = re.compile(re.escape(f".{target.name}.") + "[0-9a-z_]{8}")
    remove_left_behind(path for path in target.parent.glob(".*") if earlier.fullmatch(path.name))
    while True:
        scratch = target.parent / f".{target.name}.{secrets.token_hex(4)}"
        if folder:
            scratch.mkdir()
        else:
            scratch.touch(exist_ok=False)
        descriptor = locked(scratch, wait=True)
        if scratch.exists():  # no other process took it for a leftover before it was locked
            break
        if descriptor is not None:
            os.close(descriptor)
    try:
        yield scratch
    finally:
        if descriptor is not None:
            os.close(descriptor)


def locked(path: Path, wait: bool) -> int | None:
    """A descriptor that locks a file or folder until it is closed; None if that is impossible."""
    if fcntl is None:
        return None
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


def remove_left_behind(paths: Iterable[Path]) -> None:
    """Remove the paths that no process holds; none are removed if locks are not supported."""
    for path in paths:
        descriptor = locked(path, wait=False)
        if descriptor is None:
            continue
        with suppress(OSError):
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink()
        os.close(descriptor)


def clean(directory: Path) -> None:
    """Remove what killed processes have left behind in a run directory.

    In the folders that only OCC Lab writes to, these are all hidden paths that were to become a
    task, a stream or a state; elsewhere they are temporary files such as those of
    ``metrics.json``.
    """
    remove_left_behind(
        path for path in directory.glob(".*") if path.is_file() and OF_A_FILE.fullmatch(path.name)
    )
    for room in ROOMS:
        top = directory / room
        for where, folders, files in os.walk(top):
            found = [
                name
                for name in (*folders, *files)
                if SCRATCH.fullmatch(name) or (name.startswith(".") and Path(where) == top)
            ]
            remove_left_behind(Path(where, name) for name in found)
            folders[:] = [name for name in folders if name not in found]
