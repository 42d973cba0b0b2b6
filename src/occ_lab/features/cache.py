"""Features on disk, extracted once and shared by all runs that need the same features."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from occ_lab.features.entry_lock import CacheError, EntryLock
from occ_lab.features.level_files import Levels, Parts, TooLargeError, has_changed, write_levels
from occ_lab.utils.errors import InputError, check_number
from occ_lab.utils.files import whole_folder

log = logging.getLogger(__name__)

FACTS = "entry.json"
GB = 1e9
DIGITS = 32
NAME = "[0-9a-f]" * DIGITS  # of the folder of an entry


@dataclass(frozen=True)
class Entry:
    """One entry of the cache on disk.

    Attributes:
        folder: its folder.
        facts: its key; ``files`` are the parts of each file, by its name.
        size: its size in bytes on disk.
        used: when it was last used, in seconds since the epoch.
    """

    folder: Path
    facts: dict[str, Any]
    size: int
    used: float

    def problems(self) -> list[str]:
        """Check every byte, which is slow, and return the problems, one line for each file."""
        found = []
        for name, parts in self.facts["files"].items():
            path = self.folder / name
            if not path.is_file():
                found.append(f"{path}: missing")
            elif has_changed(path, parts):
                found.append(f"{path}: its content has changed")
        return found

    def remove(self) -> None:
        """Remove the entry, index first: if interrupted, the rest does not count as an entry."""
        (self.folder / FACTS).unlink(missing_ok=True)
        shutil.rmtree(self.folder, ignore_errors=True)


class FeatureCache:
    """A folder of feature entries, each named by a digest of everything that determines it.

    An entry is written completely or not at all. If several processes need the same entry, one of
    them creates it while the others wait. Entries are stored as float16. If their total size
    exceeds the limit, the least recently used entries are removed. Each process verifies the
    checksums of an entry once, and computes a damaged entry again.

    Args:
        dir: the folder, which is created if necessary; ``~`` is the user's home.
        enabled: whether features are stored at all.
        limit_gb: the maximum size of all entries together in GB (1e9 bytes), above 0.

    Raises:
        ValueError: ``limit_gb`` is out of range.
        InputError: ``dir`` begins with ``~`` and the user has no home.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     cache = FeatureCache(folder)
        ...     batches = lambda: iter([[np.ones((2, 4, 4, 8))], [np.ones((1, 4, 4, 8))]])
        ...     (level,) = cache.get({"images": "three"}, 3, batches)
        ...     (again,) = cache.get({"images": "three"}, 3, lambda: iter([]))
        ...     level.shape, level.dtype, bool((again == level).all())
        ((3, 4, 4, 8), dtype('float16'), True)
    """

    def __init__(self, dir: str | Path, enabled: bool = True, limit_gb: float = 50) -> None:
        check_number("limit_gb", limit_gb, above=0)
        try:
            self.dir = Path(dir).expanduser() if enabled else Path(dir)
        except RuntimeError:
            raise InputError(
                f"dir: you have no home folder for {dir}; name another folder, or set enabled to "
                "false",
                part="cache",
            ) from None
        self.enabled = enabled
        self.limit_gb = limit_gb
        self._verified: set[tuple[Path, int]] = set()

    def get(
        self, key: dict[str, Any], count: int, batches: Callable[[], Iterable[Levels]]
    ) -> Levels:
        """The levels stored under ``key``, computed from ``batches`` if missing or damaged.

        Args:
            key: everything that determines the content, as JSON data.
            count: N, the number of images.
            batches: returns the levels batch by batch, each float ``[B, H, W, C]``, in order.

        Returns:
            The levels as read-only memory maps, float16 ``[N, H, W, C]``.

        Raises:
            CacheError: the entry can be neither read nor written: the disk is full, the folder is
                not writable, another process holds the entry and does not respond, or a feature is
                too large for float16. Exceptions of ``batches`` are passed on unchanged.
        """
        folder = self.dir / digest(key)
        with self._using(), EntryLock(self._lock_of(folder)) as lock:
            levels = self._read(folder)
            if levels is None:
                for left_behind in self.dir.glob(f".{folder.name}.*"):  # by a killed process
                    shutil.rmtree(left_behind, ignore_errors=True)
                self._write(folder, key, count, lock.alive_during(batches()))
                self._keep_to_limit(folder)
                levels = self._read(folder)
                if levels is None:
                    raise OSError(f"{folder} does not contain what was written to it")
            with suppress(OSError):  # the entry of another user
                os.utime(folder / FACTS)
            return levels

    @contextmanager
    def _using(self) -> Iterator[None]:
        """Create the folder; any error in it becomes a `CacheError`."""
        try:
            self.dir.mkdir(parents=True, exist_ok=True)
            yield
        except OfBatchesError as error:  # for example, an image cannot be read
            raise error.cause from None
        except TooLargeError as error:
            raise CacheError(str(error)) from error
        except OSError as error:
            reason = error.strerror or str(error)
            raise CacheError(f"{self.dir} cannot be used ({reason})") from error

    def _lock_of(self, folder: Path) -> Path:
        return self.dir / f"{folder.name}.lock"

    def _read(self, folder: Path) -> Levels | None:
        """The levels of an entry; None if there is none, or if it was damaged and removed."""
        if not (folder / FACTS).is_file():
            return None
        entry = read_entry(folder)
        made = (folder, (folder / FACTS).stat().st_ino)
        problems = ["its index is damaged"] if entry is None else []
        if entry is not None and made not in self._verified:
            problems = entry.problems()
        if problems:
            log.warning("cache: a damaged entry is computed again: %s", problems[0])
            Entry(folder, {}, 0, 0.0).remove()
            return None
        self._verified.add(made)
        return [np.load(path, mmap_mode="r") for path in sorted(folder.glob("level*.npy"))]

    def _write(
        self, folder: Path, key: dict[str, Any], count: int, batches: Iterable[Levels]
    ) -> None:
        shutil.rmtree(folder, ignore_errors=True)  # an entry without an index
        with whole_folder(folder, durable=False) as scratch:
            files = write_levels(scratch, count, as_they_fail(batches))
            (scratch / FACTS).write_text(json.dumps({**key, "files": files}), encoding="utf-8")
        self._verified.add((folder, (folder / FACTS).stat().st_ino))  # this process wrote it

    def _keep_to_limit(self, newest: Path) -> None:
        """Remove the least recently used entries, but not ``newest``, until the limit is met."""
        entries = sorted(self.entries(), key=lambda entry: entry.used)
        total = sum(entry.size for entry in entries)
        for entry in entries:
            if total <= self.limit_gb * GB:
                return
            if entry.folder != newest and self._removed(entry):
                log.info("cache: removed %s, the least recently used entry", entry.folder)
                total -= entry.size

    def _removed(self, entry: Entry) -> bool:
        """Remove an entry unless a process creates or opens it; return whether it was removed."""
        try:
            with EntryLock(self._lock_of(entry.folder), wait=False):
                entry.remove()
        except (CacheError, OSError):
            return False
        return True

    def entries(self) -> Iterator[Entry]:
        """All complete entries."""
        for path in sorted(self.dir.glob(f"{NAME}/{FACTS}")):  # temporary folders do not match
            entry = read_entry(path.parent)
            if entry is not None:
                yield entry

    def clear(self) -> None:
        """Remove every entry and everything that killed processes have left behind.

        Entries that a process is creating or opening at the moment are kept. A process that has
        opened an entry can go on reading it.
        """
        found = {path.name[:DIGITS] for path in self.dir.glob(f"{NAME}*")}
        found |= {path.name[1 : DIGITS + 1] for path in self.dir.glob(f".{NAME}.*")}
        for each in sorted(found):
            folder = self.dir / each
            if self._removed(Entry(folder, {}, 0, 0.0)):
                for left_behind in self.dir.glob(f".{each}.*"):
                    shutil.rmtree(left_behind, ignore_errors=True)
                for beside in (".lock", ".holder"):
                    (self.dir / f"{each}{beside}").unlink(missing_ok=True)


class OfBatchesError(Exception):
    """Computing the features has raised an error that is unrelated to the cache."""

    def __init__(self, cause: Exception) -> None:
        super().__init__(str(cause))
        self.cause = cause


def as_they_fail(batches: Iterable[Levels]) -> Iterator[Levels]:
    """The same batches, with errors in computing them wrapped to tell them from write errors."""
    try:
        yield from batches
    except Exception as error:
        raise OfBatchesError(error) from error


def read_entry(folder: Path) -> Entry | None:
    """The entry in a folder, or None if its index is damaged or missing."""
    try:
        facts = json.loads((folder / FACTS).read_text(encoding="utf-8"))
        stored = facts["files"].items()
        facts["files"] = {name: parts_of(folder / name, found) for name, found in stored}
        size = sum(file.stat().st_size for file in folder.iterdir())
        return Entry(folder, facts, size, (folder / FACTS).stat().st_mtime) if stored else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def parts_of(path: Path, found: Any) -> Parts:
    """The parts of a file as an index lists them; an older one has a single checksum."""
    if isinstance(found, str):
        return [(path.stat().st_size if path.is_file() else 0, found)]
    return [(int(size), str(checksum)) for size, checksum in found]


def digest(key: dict[str, Any]) -> str:
    """A unique name for ``key``, ``DIGITS`` hex digits."""
    return hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:DIGITS]
