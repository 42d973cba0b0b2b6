"""Files and folders that are written completely or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from occ_lab.utils.scratch import scratch_beside

LONGEST = 200  # bytes of a name; what is added to it must fit into the 255 of file systems
FAILURE = "error.txt"  # of a failed job: one line that sums up the error, then the full error


def check_name(argument: str, name: str) -> None:
    """Raise an error unless ``name`` is valid as the name of a folder.

    Raises:
        ValueError: it is empty, begins with a dot, contains a slash or a character that names
            cannot have, or is longer than 200 bytes; the message begins with ``argument``.

    Example:
        >>> check_name("name", "Prüfteile 7")
        >>> check_name("name", "../parts")
        Traceback (most recent call last):
        ValueError: name: '../parts' cannot be the name of a folder: it begins with a dot
    """
    size = len(name.encode("utf-8", "backslashreplace"))
    wrong = {
        "it is empty": not name.strip(),
        "it begins with a dot": name.startswith("."),
        "it contains a slash or backslash": "/" in name or "\\" in name,
        "it contains characters that no text has": any(
            letter < " " or "\ud800" <= letter <= "\udfff" for letter in name
        ),
        f"it is longer than {LONGEST} bytes": size > LONGEST,
    }
    for reason, is_so in wrong.items():
        if is_so:
            raise ValueError(f"{argument}: {name!r} cannot be the name of a folder: {reason}")


def typed_path(text: str) -> Path:
    """A path as typed on a command line; ``~`` stands for the home folder."""
    return Path(text).expanduser()


def sync(path: Path) -> None:
    """Write a file, or the list of names in a folder, from the system's buffers to the disk.

    Without this call, a power cut can leave a file name without its content. On systems that cannot
    do it for folders, such as Windows, folders are skipped.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except PermissionError:
        if path.is_dir():
            return
        raise
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def whole_folder(target: Path, durable: bool = True) -> Iterator[Path]:
    """A temporary folder that becomes ``target`` if the block ends without an error.

    It lies beside ``target`` under a hidden name. The last step is a single rename, after all
    content has been written to the disk. On any error, including Ctrl-C, it is removed. If another
    process has created ``target`` in the meantime, that folder is kept and this one is removed.

    Args:
        target: the folder to create; its parents are created too.
        durable: whether the content must survive a power cut. Without this, the system writes it to
            the disk when it likes, for what has checksums and can be made again.

    Yields:
        The temporary folder to write into.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as base:
        ...     with whole_folder(Path(base, "run")) as scratch:
        ...         _ = (scratch / "metrics.json").write_text("{}")
        ...     [path.name for path in Path(base, "run").iterdir()]
        ['metrics.json']
    """
    with scratch_beside(target, folder=True) as scratch:
        try:
            yield scratch
            if durable:
                for path in [*scratch.rglob("*"), scratch]:
                    sync(path)
            try:
                scratch.rename(target)
            except OSError:
                if not target.is_dir():
                    raise
            if durable:
                sync(target.parent)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)


@contextmanager
def whole_file(target: Path) -> Iterator[Path]:
    """A temporary file beside ``target`` that replaces it if the block ends without an error.

    Args:
        target: the file to write; its parents are created.

    Yields:
        The temporary file to write to.
    """
    with scratch_beside(target, folder=False) as scratch:
        mode = scratch.stat().st_mode
        try:
            yield scratch
            scratch.chmod(mode)  # safetensors replaces it by a file that only its owner can read
            sync(scratch)
            scratch.replace(target)
            sync(target.parent)
        finally:
            scratch.unlink(missing_ok=True)


@contextmanager
def whole_files(target: Path) -> Iterator[Path]:
    """A temporary folder whose files move beside ``target`` if the block ends without an error.

    Args:
        target: the main file; its parents are created. An earlier version of it is removed before
            the other files move, and the new one moves last, so that it never stands beside files
            of another version.

    Yields:
        The temporary folder to write into.
    """
    with scratch_beside(target, folder=True) as scratch:
        try:
            yield scratch
            others = sorted(file for file in scratch.iterdir() if file.name != target.name)
            for file in scratch.iterdir():
                sync(file)
            if others:
                target.unlink(missing_ok=True)
            for file in [*others, scratch / target.name]:
                file.replace(target.parent / file.name)
            sync(target.parent)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)


def write_whole(target: Path, text: str) -> None:
    r"""Write ``text`` to ``target`` in UTF-8 by a single rename, replacing an earlier file.

    Bytes of a file name that are not UTF-8 are written as ``\udcXX``.
    """
    with whole_file(target) as scratch:
        scratch.write_bytes(text.encode("utf-8", "backslashreplace"))
