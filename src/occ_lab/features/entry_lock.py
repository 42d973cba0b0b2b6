"""A lock that lets one process create a cache entry while others wait for a limited time."""

from __future__ import annotations

import logging
import os
import platform
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from filelock import FileLock, Timeout

log = logging.getLogger(__name__)

SOON = 5.0  # seconds after which waiting is logged
PATIENCE = 120.0  # seconds without a sign of life after which waiting ends

T = TypeVar("T")


class CacheError(Exception):
    """The cache cannot be used; the features have to be computed."""


class EntryLock:
    """The lock of a cache entry, as a context manager.

    Nothing is locked if the file system has no locks or does not permit this user to lock. An
    entry is written completely or not at all, so at worst two processes compute the same entry. The
    system releases the lock of a killed process.

    Args:
        path: the path of the lock's file.
        wait: whether to wait for a process that holds it.

    Raises:
        CacheError: another process holds it, and either ``wait`` is off or that process has shown
            no sign of life for two minutes.
    """

    def __init__(self, path: Path, wait: bool = True) -> None:
        self.path = path
        self.wait = wait
        self.lock = FileLock(path)
        self.holder = path.with_suffix(".holder")  # the process, and its last sign of life

    def __enter__(self) -> EntryLock:
        try:
            self._acquire()
            who = f"process {os.getpid()} on {platform.node()}"
            self.holder.write_text(who, encoding="utf-8")
        except Timeout as error:
            raise CacheError(f"{self._who()} holds {self.path}") from error
        except (OSError, NotImplementedError):
            pass
        return self

    def _acquire(self) -> None:
        """Acquire the lock, or raise `Timeout`."""
        reported, started = False, time.monotonic()
        while True:
            try:
                self.lock.acquire(timeout=1.0 if self.wait else 0)
                return
            except Timeout:
                if not self.wait or self._idle(started) > PATIENCE:
                    raise
            if not reported and time.monotonic() - started > SOON:
                reported = True
                log.info(
                    "cache: waiting for %s, which computes the same features; a run with enabled "
                    "set to false does not wait",
                    self._who(),
                )

    def _who(self) -> str:
        with suppress(OSError):
            return self.holder.read_text(encoding="utf-8", errors="replace")
        return "another process"

    def _idle(self, started: float) -> float:
        """Seconds since the holder's last sign of life, or since the start of the wait."""
        waited = time.monotonic() - started
        with suppress(OSError):
            return min(waited, time.time() - self.holder.stat().st_mtime)
        return waited

    def alive_during(self, batches: Iterable[T]) -> Iterator[T]:
        """The same batches; each one counts as a sign of life for waiting processes."""
        for batch in batches:
            with suppress(OSError):
                os.utime(self.holder)
            yield batch

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with suppress(OSError):
            self.holder.unlink(missing_ok=True)
        self.lock.release()
