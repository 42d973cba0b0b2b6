"""The files of a cache entry: levels in float16, with checksums."""

from __future__ import annotations

import hashlib
import io
import os
from collections import deque
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from itertools import accumulate
from pathlib import Path
from threading import Lock
from typing import BinaryIO, TypeAlias

import numpy as np
from numpy.lib import format as npy

Levels: TypeAlias = list[np.ndarray]
# A file as consecutive parts: the number of bytes of each, and their SHA-256 in hex.
Parts: TypeAlias = list[tuple[int, str]]

THREADS = min(8, os.cpu_count() or 1)  # that compute checksums, each about 1 GB a second
AHEAD = 2  # batches that may be waiting to be written


class TooLargeError(Exception):
    """A feature is not finite or too large for float16."""


def write_levels(folder: Path, count: int, batches: Iterable[Levels]) -> dict[str, Parts]:
    """Write batches of levels one after another to float16 files ``level0.npy``, ...

    Channels come last, because convolutions on a CPU are fastest with this layout. Threads write
    one batch while the next one is computed.

    If the disk is full, a write raises an error; a memory map would kill the process.

    Args:
        folder: the folder for the files.
        count: N, the number of images.
        batches: the levels batch by batch, each float ``[B, H, W, C]``, in order.

    Returns:
        The parts of each file with their checksums, by file name.

    Raises:
        TooLargeError: a feature is not finite or too large for float16.
        OSError: the disk is full.
    """
    with ExitStack() as stack:
        pool = stack.enter_context(ThreadPoolExecutor(THREADS))
        files: list[LevelFile] = []
        waiting: deque[list[Future[None]]] = deque()
        for levels in batches:
            if not files:
                for index, level in enumerate(levels):
                    stream = stack.enter_context((folder / f"level{index}.npy").open("wb"))
                    files.append(LevelFile(stream, (count, *level.shape[1:])))
            if len(waiting) == AHEAD:
                finish(waiting.popleft())
            waiting.append(
                [
                    pool.submit(file.write, file.reserve(len(level)), level)
                    for file, level in zip(files, levels, strict=True)
                ]
            )
        for writing in waiting:
            finish(writing)
        return {Path(file.stream.name).name: file.parts for file in files}


def finish(writing: list[Future[None]]) -> None:
    """Wait until the levels of a batch are written, or raise the error of one of them."""
    for each in writing:
        each.result()


class LevelFile:
    """A float16 ``.npy`` file whose parts threads can write at the same time.

    Args:
        stream: the file, empty.
        shape: the shape of the complete array.

    Attributes:
        parts: the header and the batches, with the checksums of those that are written.
    """

    def __init__(self, stream: BinaryIO, shape: tuple[int, ...]) -> None:
        self.stream = stream
        self.parts: Parts = []
        self._row = 2 * int(np.prod(shape[1:]))  # bytes
        self._starts: list[int] = []
        self._end = 0
        self._position = Lock()
        header = io.BytesIO()
        facts = {"descr": "<f2", "fortran_order": False, "shape": shape}
        npy.write_array_header_1_0(header, facts)
        self._write(self._part_of(header.getbuffer().nbytes), header.getbuffer())

    def reserve(self, rows: int) -> int:
        """The index of a new part for this number of rows."""
        return self._part_of(rows * self._row)

    def write(self, part: int, level: np.ndarray) -> None:
        """Write the rows ``[B, H, W, C]`` of a part.

        Raises:
            TooLargeError: a feature is not finite or too large for float16.
        """
        with np.errstate(over="ignore"):
            half = np.ascontiguousarray(level, dtype="<f2")
        exponents = half.view("<u2") & 0x7C00  # all its bits are set in inf and nan
        if exponents.max(initial=0) == 0x7C00:
            raise TooLargeError("a feature is not finite or too large for float16")
        self._write(part, half.data.cast("B"))

    def _part_of(self, size: int) -> int:
        self.parts.append((size, ""))
        self._starts.append(self._end)
        self._end += size
        return len(self.parts) - 1

    def _write(self, part: int, data: memoryview) -> None:
        with self._position:
            self.stream.seek(self._starts[part])
            self.stream.write(data)
        self.parts[part] = (len(data), hashlib.sha256(data).hexdigest())


def has_changed(path: Path, parts: Parts) -> bool:
    """Whether the content of a file is not that of its parts any more; every byte is read."""
    ends = list(accumulate(size for size, _ in parts))
    if path.stat().st_size != ends[-1]:
        return True
    with ThreadPoolExecutor(min(THREADS, len(parts))) as pool:
        found = pool.map(checksum, [path] * len(parts), [0, *ends], [size for size, _ in parts])
        return any(now != then for now, (_, then) in zip(found, parts, strict=True))


def checksum(path: Path, start: int, size: int) -> str:
    """SHA-256 in hex of ``size`` bytes of a file, from byte ``start``."""
    found = hashlib.sha256()
    with path.open("rb") as file:
        file.seek(start)
        while size > 0 and (chunk := file.read(min(size, 1 << 20))):
            found.update(chunk)
            size -= len(chunk)
    return found.hexdigest()
