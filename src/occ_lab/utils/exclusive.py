"""A lock that lets one process at a time work in a directory."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from occ_lab.utils.errors import InputError

LOCK = ".running.lock"
RANKS = ("RANK", "LOCAL_RANK", "SLURM_PROCID", "JSM_NAMESPACE_RANK")  # in Lightning's order


@contextmanager
def exclusive(directory: Path) -> Iterator[None]:
    """Lock a directory while the block runs.

    The system releases the lock if the process is killed. In a distributed run, the process of rank
    0 holds the lock for all processes. No lock is taken if the file system does not support locks.

    Args:
        directory: is created if it does not exist.

    Raises:
        InputError: another process holds the lock.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder, exclusive(Path(folder)):
        ...     pass
    """
    if next((os.environ[name] for name in RANKS if name in os.environ), "0") != "0":
        yield
        return
    directory.mkdir(parents=True, exist_ok=True)
    lock = FileLock(directory / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise InputError(
            f"another run is working in {directory}; name another directory, or wait until it ends",
            part="directory",
        ) from None
    except (OSError, NotImplementedError):
        yield
        return
    try:
        yield
    finally:
        (directory / LOCK).unlink(missing_ok=True)
        lock.release()
