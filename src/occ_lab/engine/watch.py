"""Image files that arrive in a folder, each returned as soon as it is complete."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Generic, TypeVar

from occ_lab.data.files import SYSTEM_FOLDERS, image_suffixes, images_below
from occ_lab.utils.errors import InputError, MissingError, check_number

TICK = 0.1  # seconds between two checks of incomplete files
RESCAN = 5.0  # seconds between two scans of the folder, as not all file systems report changes

T = TypeVar("T")
Signature = tuple[int, int, int]  # inode, size and time of the last change


@dataclass(frozen=True)
class Arrival(Generic[T]):
    """A file that has arrived.

    Attributes:
        path: the file.
        content: the result of reading it; None if it stays unreadable.
        error: the reason; empty if it could be read.
    """

    path: Path
    content: T | None
    error: str = ""


@dataclass
class Waiting:
    """A file that may be incomplete.

    Attributes:
        signature: its signature at the last check.
        since: the time of the first check with this signature.
        again: when to try to read it.
    """

    signature: Signature | None = None
    since: float = 0.0
    again: float = 0.0


class Arrivals(Generic[T]):
    """Follows a folder, including its subfolders, in which images arrive.

    A file is read when its size and time have not changed for ``settle`` seconds. If it cannot be
    read then, for example because it is incomplete, it is tried again for ``patience`` seconds. A
    file that was read or given up counts as new when it is written again. `files_below` defines
    which files are images, and which are hidden.

    Args:
        folder: the folder.
        read: reads a file; `OSError` and `ValueError` mean that it cannot be read (yet).
        known: files in the folder that are not read unless they change.
        settle: the number of seconds without a change before a file is read, at least 0.
        patience: the number of seconds after the last change until a file is given up, at least 0.
        stop: if set, ends the iteration.

    Raises:
        MissingError: there is no such folder.
        InputError: watchfiles is not installed.
        ValueError: a number is out of range; the message begins with its name.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     _ = Path(folder, "1.png").write_bytes(b"pixels")
        ...     arrivals = Arrivals(Path(folder), Path.read_bytes, settle=0)
        ...     next(iter(arrivals)).content
        b'pixels'
    """

    def __init__(
        self,
        folder: Path,
        read: Callable[[Path], T],
        known: Iterable[Path] = (),
        settle: float = 0.2,
        patience: float = 10.0,
        stop: Event | None = None,
    ) -> None:
        check_number("settle", settle, at_least=0)
        check_number("patience", patience, at_least=0)
        if not folder.is_dir():
            raise MissingError(f"input: no folder {folder.absolute()} to watch; create it first")
        try:
            import watchfiles  # noqa: F401
        except ImportError as error:
            raise InputError(
                "watch: to follow a folder, install watchfiles: pip install 'occ-lab[watch]'"
            ) from error
        self.folder = folder
        self.read = read
        self.settle = settle
        self.patience = patience
        self.stop = stop or Event()
        self._done: dict[Path, Signature | None] = {}
        self._waiting: dict[Path, Waiting] = {}
        self.skip(known)

    def skip(self, known: Iterable[Path]) -> None:
        """Do not read these files unless they change."""
        self._done.update((path, signature_of(path)) for path in known)

    def __iter__(self) -> Iterator[Arrival[T]]:
        """The existing files and those that arrive, in the order in which they become complete.

        Raises:
            InputError: the folder cannot be watched.
        """
        from watchfiles import watch

        logging.getLogger("watchfiles").setLevel(logging.WARNING)  # it logs every change
        top, real = self.folder.absolute(), self.folder.resolve()
        looked = -math.inf
        changed = watch(
            top,
            watch_filter=None,
            debounce=int(1000 * TICK),
            step=20,
            rust_timeout=int(1000 * TICK),
            yield_on_timeout=True,
            stop_event=self.stop,
            ignore_permission_denied=True,
        )
        while True:
            try:
                changes = next(changed, None)
            except OSError as error:
                raise InputError(
                    f"watch: {self.folder} cannot be watched ({error}); with "
                    "WATCHFILES_FORCE_POLLING=true in the environment it is scanned instead"
                ) from error
            if changes is None:
                return
            if time.monotonic() - looked >= RESCAN:
                self._look_through(self.folder)
                looked = time.monotonic()
            for name in sorted(name for _, name in changes):
                base = next((each for each in (top, real) if Path(name).is_relative_to(each)), None)
                if base is not None:
                    self._note(Path(name).relative_to(base))
            for arrival in self._complete():
                yield arrival
                if self.stop.is_set():
                    return

    def _note(self, below: Path) -> None:
        """Register a change of a path below the folder."""
        if any(part.startswith(".") or part in SYSTEM_FOLDERS for part in below.parts):
            return
        path = self.folder / below
        if path.is_dir():  # files may have arrived in it before it was watched
            self._look_through(path)
        elif path.suffix.lower() in image_suffixes():
            self._waiting.setdefault(path, Waiting())

    def _look_through(self, folder: Path) -> None:
        try:
            found = images_below(folder)
        except InputError:  # it is gone or not readable; other folders are still followed
            return
        for path in found:
            if path not in self._done:
                self._waiting.setdefault(path, Waiting())

    def _is_new(self, path: Path, signature: Signature | None) -> bool:
        return path not in self._done or self._done[path] != signature

    def _complete(self) -> Iterator[Arrival[T]]:
        """The waiting files that can be read now, and those that are given up."""
        for path, waiting in list(self._waiting.items()):
            if self.stop.is_set():
                return
            signature, now = signature_of(path), time.monotonic()
            if signature is None or not self._is_new(path, signature):  # gone, or only touched
                del self._waiting[path]
                continue
            if signature != waiting.signature:
                waiting.signature, waiting.since, waiting.again = signature, now, now + self.settle
            if now < waiting.again:
                continue
            content, error = None, ""
            try:
                content = self.read(path)
            except (OSError, ValueError) as failure:
                error = str(failure).splitlines()[0]
            if signature_of(path) != signature:  # it has changed in the meantime; check again
                continue
            if error and now < waiting.since + self.patience:
                waiting.again = now + max(self.settle, TICK)
                continue
            del self._waiting[path]
            self._done[path] = signature
            yield Arrival(path, content, error)


def signature_of(path: Path) -> Signature | None:
    """A value that changes when a file is written again; None if there is no file."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns
