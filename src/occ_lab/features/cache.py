"""Features on disk: extracted once and shared by every run that needs the same ones."""

from __future__ import annotations

import hashlib
import io
import json
import logging
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from filelock import FileLock
from numpy.lib import format as npy

from occ_lab.utils.errors import InputError, check_number
from occ_lab.utils.files import whole_folder

log = logging.getLogger(__name__)

FACTS = "entry.json"
GB = 1e9
DIGITS = 32  # of an entry's name

Levels = list[np.ndarray]


@dataclass(frozen=True)
class Entry:
    """One entry of the cache on disk.

    Attributes:
        folder: where it is.
        facts: its key, and the checksum of each file.
        size: bytes on disk.
        used: when it was last used, in seconds since the epoch.
    """

    folder: Path
    facts: dict[str, Any]
    size: int
    used: float

    def problems(self) -> list[str]:
        """Check every byte, which is slow, and return what is wrong, one line for each file."""
        found = []
        for name, checksum in self.facts["files"].items():
            path = self.folder / name
            if not path.is_file():
                found.append(f"{path}: missing")
            elif file_checksum(path) != checksum:
                found.append(f"{path}: its content has changed")
        return found


class FeatureCache:
    """A folder of feature entries, each found by the digest of all that decides its content.

    An entry appears whole or not at all. If several processes want the same one, one of them makes
    it while the others wait. Entries are float16. If they exceed the limit together, those that
    have been unused for longest are removed.

    Args:
        dir: the folder, which is made if needed; ``~`` is the user's home.
        enabled: whether features are kept at all.
        limit_gb: the size of all entries together in GB (1e9 bytes), above 0.

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

    def make(self) -> None:
        """Make the folder, so that a run which could not write its features stops at once.

        Raises:
            InputError: it cannot be made.
        """
        with self._writing():
            self.dir.mkdir(parents=True, exist_ok=True)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except InputError:  # of an image that cannot be read, for one
            raise
        except OSError as error:
            raise InputError(
                f"dir: cannot write features to {self.dir} ({error.strerror or error}); make "
                "room, choose another folder, or set enabled to false",
                part="cache",
            ) from error

    @contextmanager
    def _locked(self, name: str) -> Iterator[None]:
        """Let one process at a time make an entry, where the file system has locks.

        An entry of another user, or in a folder that cannot be written, is read without a lock.
        """
        lock = FileLock(self.dir / f"{name}.lock")
        try:
            self.dir.mkdir(parents=True, exist_ok=True)
            lock.acquire()
        except (OSError, NotImplementedError):
            yield
            return
        try:
            yield
        finally:
            lock.release()

    def get(
        self, key: dict[str, Any], count: int, batches: Callable[[], Iterable[Levels]]
    ) -> Levels:
        """The levels under ``key``, made from ``batches`` if they are absent.

        Args:
            key: everything that decides the content, as JSON can hold it.
            count: N, the number of images.
            batches: returns the levels batch by batch, each float ``[B, H, W, C]``, in order.

        Returns:
            The levels as read-only memory maps, float16 ``[N, H, W, C]``.

        Raises:
            InputError: the disk is full, the folder cannot be written, or a feature is too large
                for float16.
        """
        folder = self.dir / digest(key)
        with self._locked(folder.name):
            if not (folder / FACTS).is_file():
                for left_behind in self.dir.glob(f".{folder.name}.*"):  # by a killed process
                    shutil.rmtree(left_behind, ignore_errors=True)
                self._write(folder, key, count, batches())
                self._keep_to_limit(folder)
            with suppress(PermissionError):  # of another user
                os.utime(folder / FACTS)
            return [np.load(path, mmap_mode="r") for path in sorted(folder.glob("level*.npy"))]

    def _write(
        self, folder: Path, key: dict[str, Any], count: int, batches: Iterable[Levels]
    ) -> None:
        with self._writing(), whole_folder(folder) as scratch:
            checksums = write_levels(scratch, count, batches)
            (scratch / FACTS).write_text(json.dumps({**key, "files": checksums}), encoding="utf-8")

    def _keep_to_limit(self, newest: Path) -> None:
        """Remove the entries unused for longest, never the newest, until the limit is kept."""
        entries = sorted(self.entries(), key=lambda entry: entry.used)
        total = sum(entry.size for entry in entries)
        for entry in entries:
            if total <= self.limit_gb * GB:
                return
            if entry.folder != newest:
                log.info("cache: removing %s, unused for longest", entry.folder)
                shutil.rmtree(entry.folder, ignore_errors=True)
                total -= entry.size

    def entries(self) -> Iterator[Entry]:
        """All whole entries."""
        for path in sorted(self.dir.glob(f"*/{FACTS}")):
            size = sum(file.stat().st_size for file in path.parent.iterdir())
            facts = json.loads(path.read_text(encoding="utf-8"))
            yield Entry(path.parent, facts, size, path.stat().st_mtime)

    def clear(self) -> None:
        """Remove every entry and what killed processes have left behind."""
        name = "[0-9a-f]" * DIGITS  # only what is ours, wherever ``dir`` points
        for path in [*self.dir.glob(name), *self.dir.glob(f".{name}.*")]:
            shutil.rmtree(path, ignore_errors=True)
        for path in self.dir.glob(f"{name}.lock"):
            path.unlink()


def write_levels(folder: Path, count: int, batches: Iterable[Levels]) -> dict[str, str]:
    """Write batches of levels one after another as float16 files ``level0.npy``, ...

    Channels come last, as convolutions on a CPU are fastest with. A thread writes a batch while
    the next one is made.

    On a full disk a write raises, while a memory map would kill the process.

    Args:
        folder: where the files go.
        count: N, the number of images.
        batches: the levels batch by batch, each float ``[B, H, W, C]``, in order.

    Returns:
        The checksum of each file by its name.

    Raises:
        InputError: a feature is not finite or too large for float16.
        OSError: the disk is full.
    """
    with ExitStack() as stack:
        writer = stack.enter_context(ThreadPoolExecutor(1))
        files: list[LevelFile] = []
        written: list[Future[None]] = []
        for levels in batches:
            if not files:
                for index, level in enumerate(levels):
                    stream = stack.enter_context((folder / f"level{index}.npy").open("wb"))
                    files.append(LevelFile(stream, (count, *level.shape[1:])))
            if written:
                written.pop().result()
            written.append(writer.submit(append, files, levels))
        if written:
            written.pop().result()
        return {Path(file.stream.name).name: file.checksum.hexdigest() for file in files}


class LevelFile:
    """A float16 ``.npy`` file that grows batch by batch.

    Args:
        stream: the file, empty.
        shape: of the array that it will hold.

    Attributes:
        checksum: of what has been written.
    """

    def __init__(self, stream: BinaryIO, shape: tuple[int, ...]) -> None:
        self.stream = stream
        self.checksum = hashlib.sha256()
        header = io.BytesIO()
        facts = {"descr": "<f2", "fortran_order": False, "shape": shape}
        npy.write_array_header_1_0(header, facts)
        self._write(header.getbuffer())

    def append(self, level: np.ndarray) -> None:
        """Write the rows ``[B, H, W, C]`` that come next.

        Raises:
            InputError: a feature is not finite or too large for float16.
        """
        with np.errstate(over="ignore"):
            half = np.ascontiguousarray(level, dtype="<f2")
        exponents = half.view("<u2") & 0x7C00  # all its bits are set in inf and nan
        if (exponents == 0x7C00).any():
            raise InputError(
                "enabled: a feature is not finite or too large for float16; set it to false",
                part="cache",
            )
        self._write(half.data)

    def _write(self, data: memoryview) -> None:
        self.stream.write(data)
        self.checksum.update(data)


def append(files: list[LevelFile], levels: Levels) -> None:
    """Write a batch of each level to its file."""
    for file, level in zip(files, levels, strict=True):
        file.append(level)


def digest(key: dict[str, Any]) -> str:
    """A name for ``key`` that no other key has, ``DIGITS`` hex digits."""
    return hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:DIGITS]


def file_checksum(path: Path) -> str:
    """SHA-256 of a file's content, in hex."""
    checksum = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            checksum.update(chunk)
    return checksum.hexdigest()
