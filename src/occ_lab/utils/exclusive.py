"""One process at a time works in a directory."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from occ_lab.utils.errors import InputError

LOCK = ".running.lock"
RANKS = ("RANK", "LOCAL_RANK", "SLURM_PROCID", "JSM_NAMESPACE_RANK")  # as Lightning asks for them


@contextmanager
def exclusive(directory: Path) -> Iterator[None]:
    """Hold a directory for as long as the block lasts; the system lets go of it if it is killed.

    Of a distributed run, the first process holds it for all. Where the file system has no locks,
    nothing is held.

    Args:
        directory: is made if needed.

    Raises:
        InputError: another process holds it.

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
            f"another run is working in {directory}; name another directory, or wait for its end",
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
