"""Unpacking archives: completely or not at all, and never outside their folder."""

from __future__ import annotations

import gzip
import lzma
import os
import shutil
import stat
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PureWindowsPath

from occ_lab.utils.errors import InputError

TARS = (".tar", ".tar.gz", ".tgz", ".tar.xz")
DAMAGED = (
    zipfile.BadZipFile,
    tarfile.TarError,
    gzip.BadGzipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,  # a truncated file
    RuntimeError,  # a zip with a password or an unknown compression
    ValueError,
)


def unpack(path: Path, folder: Path) -> None:
    """Unpack an archive into ``folder`` completely or not at all.

    Its folders are merged with existing ones, and no file is overwritten. The temporary folder is
    inside ``folder``, not beside it, because ``folder`` may be the mount point of a disk.

    Args:
        path: a ``.zip``, ``.tar``, ``.tar.gz``, ``.tgz`` or ``.tar.xz`` file, or a single file in
            a ``.gz``.
        folder: the folder for its content; it is created.

    Raises:
        InputError: the archive is damaged, a member would be written outside of ``folder``, a file
            exists already, or ``folder`` is not writable.
    """
    extract = extractor(path)
    with writing_to(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".unpack.", dir=folder) as scratch:
            try:
                extract(path, Path(scratch))
            except InputError:
                raise
            except DAMAGED as error:
                raise InputError(
                    f"{path.absolute()}: cannot be unpacked ({error}); remove it and run the same "
                    "command again"
                ) from error
            merge(Path(scratch), folder)


def extractor(path: Path) -> Callable[[Path, Path], None]:
    """The function that unpacks a file with such a name.

    Raises:
        InputError: archives of this kind are not supported.
    """
    name = path.name.lower()
    if name.endswith(".zip"):
        return extract_zip
    if name.endswith(TARS):
        return extract_tar
    if name.endswith(".gz"):
        return extract_gz
    raise InputError(f"{path.absolute()}: its name must end in {', '.join(TARS)}, .zip or .gz")


def extract_zip(path: Path, folder: Path) -> None:
    """Unpack a zip file.

    Raises:
        InputError: a member is a link or would be written outside of ``folder``.
    """
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            target = PureWindowsPath(member.filename)  # handles both slashes, and drives
            is_link = stat.S_ISLNK(member.external_attr >> 16)
            if target.drive or target.root or ".." in target.parts or is_link:
                raise InputError(
                    f"{path.absolute()}: refused, since {member.filename!r} in it "
                    f"{'is a link' if is_link else 'would leave the folder'}"
                )
        archive.extractall(folder)


def extract_tar(path: Path, folder: Path) -> None:
    """Unpack a tar file, compressed or not.

    Raises:
        InputError: a member would be written outside of ``folder``, or this version of Python
            cannot check that.
    """
    if not hasattr(tarfile, "data_filter"):
        raise InputError(
            f"{path.absolute()}: this Python cannot unpack tar files safely; use 3.10.12, 3.11.4 "
            "or newer"
        )
    with tarfile.open(path) as archive:
        try:
            archive.extractall(folder, filter="data")
        except tarfile.FilterError as error:
            raise InputError(f"{path.absolute()}: refused, since {error}") from error


def extract_gz(path: Path, folder: Path) -> None:
    """Unpack a single file to its name without ``.gz``."""
    with gzip.open(path) as packed, (folder / path.stem).open("wb") as file:
        shutil.copyfileobj(packed, file)


def merge(source: Path, target: Path) -> None:
    """Move the content of ``source`` into ``target``; folders of the same name are merged.

    Raises:
        InputError: a file exists already; in this case nothing is moved.
    """
    for ours, theirs in list(moves(source, target)):
        ours.rename(theirs)


def moves(source: Path, target: Path) -> Iterator[tuple[Path, Path]]:
    """The moves that ``merge`` has to make, as pairs of source and target."""
    for entry in sorted(source.iterdir()):
        there = target / entry.name
        if not os.path.lexists(there):
            yield entry, there
        elif entry.is_dir() and not entry.is_symlink() and there.is_dir():
            yield from moves(entry, there)
        else:
            raise InputError(
                f"{there.absolute()} exists already and is not overwritten; move it away, or name "
                "another folder"
            )


@contextmanager
def writing_to(folder: Path) -> Iterator[None]:
    """Convert an OSError into an `InputError` saying that ``folder`` cannot be written.

    Raises:
        InputError: instead of an OSError.
    """
    try:
        yield
    except OSError as error:
        raise InputError(
            f"cannot write to {folder.absolute()} ({error}); free some space, or name another "
            "folder; the same command continues where it stopped"
        ) from error
