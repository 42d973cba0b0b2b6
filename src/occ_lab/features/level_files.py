"""The files of a cache entry: levels in float16, with checksums."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO, TypeAlias

import numpy as np
from numpy.lib import format as npy

Levels: TypeAlias = list[np.ndarray]


class TooLargeError(Exception):
    """A feature is not finite or too large for float16."""


def write_levels(folder: Path, count: int, batches: Iterable[Levels]) -> dict[str, str]:
    """Write batches of levels one after another to float16 files ``level0.npy``, ...

    Channels come last, because convolutions on a CPU are fastest with this layout. A thread writes
    one batch while the next one is computed.

    If the disk is full, a write raises an error; a memory map would kill the process.

    Args:
        folder: the folder for the files.
        count: N, the number of images.
        batches: the levels batch by batch, each float ``[B, H, W, C]``, in order.

    Returns:
        The checksum of each file, by file name.

    Raises:
        TooLargeError: a feature is not finite or too large for float16.
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
    """A float16 ``.npy`` file that is written batch by batch.

    Args:
        stream: the file, empty.
        shape: the shape of the complete array.

    Attributes:
        checksum: the checksum of the data written so far.
    """

    def __init__(self, stream: BinaryIO, shape: tuple[int, ...]) -> None:
        self.stream = stream
        self.checksum = hashlib.sha256()
        header = io.BytesIO()
        facts = {"descr": "<f2", "fortran_order": False, "shape": shape}
        npy.write_array_header_1_0(header, facts)
        self._write(header.getbuffer())

    def append(self, level: np.ndarray) -> None:
        """Write the next rows ``[B, H, W, C]``.

        Raises:
            TooLargeError: a feature is not finite or too large for float16.
        """
        with np.errstate(over="ignore"):
            half = np.ascontiguousarray(level, dtype="<f2")
        exponents = half.view("<u2") & 0x7C00  # all its bits are set in inf and nan
        if (exponents == 0x7C00).any():
            raise TooLargeError("a feature is not finite or too large for float16")
        self._write(half.data)

    def _write(self, data: memoryview) -> None:
        self.stream.write(data)
        self.checksum.update(data)


def append(files: list[LevelFile], levels: Levels) -> None:
    """Write a batch of each level to its file."""
    for file, level in zip(files, levels, strict=True):
        file.append(level)


def file_checksum(path: Path) -> str:
    """SHA-256 of a file's content, in hex."""
    checksum = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            checksum.update(chunk)
    return checksum.hexdigest()
