"""Fetching a benchmark's archives: verified, resumable, installed completely or not at all.

Nothing here imports torch.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

import pooch
import requests
from filelock import FileLock, Timeout
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from urllib3.exceptions import HTTPError, IncompleteRead

from occ_lab.data.download.unpack import merge, unpack, writing_to
from occ_lab.utils.errors import InputError

TIMEOUT = 30.0  # seconds without a connection or without data
ATTEMPTS = 4  # in a row that brought no new data
PAUSE = 1.0  # seconds before the second attempt; multiplied by the number of failed attempts
CHUNK = 1 << 16  # bytes; a dropped connection loses fewer than this
DOWNLOADS = ".download"  # under the root: the archives and their unpacked content


@dataclass(frozen=True)
class Archive:
    """A file to download.

    Attributes:
        url: its address.
        checksum: ``md5:...`` or ``sha256:...``.
        size: its size in bytes; None if unknown.
        into: the subfolder of the root to unpack it into; empty for the root.
    """

    url: str
    checksum: str
    size: int | None = None
    into: str = ""

    @property
    def name(self) -> str:
        """The name of the file on disk: the last part of the address."""
        return PurePosixPath(unquote(urlsplit(self.url).path)).name


def install(archives: Sequence[Archive], root: Path) -> None:
    """Fetch and unpack archives; ``root/.download`` holds them until all content is in place.

    Their folders are merged with those under ``root``; no file is overwritten.

    Args:
        archives: what to fetch; their names must differ.
        root: the folder for their content; it is created.

    Raises:
        InputError: an archive cannot be fetched or unpacked, or another process is downloading
            into ``root``.
        ValueError: two archives have the same name.
    """
    names = [archive.name for archive in archives]
    if len(set(names)) < len(names):
        raise ValueError(f"archives: two have the same name: {', '.join(names)}")
    downloads = root / DOWNLOADS
    with writing_to(root):
        downloads.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(downloads / "lock", timeout=0):
            # Images do not compress: the content of an archive takes at least its size.
            unpacked = sum(archive.size or 0 for archive in archives)
            check_space(root, unpacked + sum(missing(archive, downloads) for archive in archives))
            paths = [fetch(archive, downloads) for archive in archives]
            with writing_to(root):
                unpack_all(archives, paths, downloads / "unpacked", root)
    except Timeout as error:
        raise InputError(
            f"another process is downloading into {root.absolute()}; wait until it is done"
        ) from error
    shutil.rmtree(downloads, ignore_errors=True)


def unpack_all(
    archives: Sequence[Archive], paths: Sequence[Path], scratch: Path, root: Path
) -> None:
    """Unpack all archives into ``scratch``, then move everything to ``root`` at once."""
    shutil.rmtree(scratch, ignore_errors=True)  # left behind by a killed process
    scratch.mkdir()
    try:
        for archive, path in zip(archives, paths, strict=True):
            unpack(path, scratch / archive.into)
        merge(scratch, root)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def fetch(archive: Archive, folder: Path) -> Path:
    """The verified file in ``folder``, downloaded unless it is present.

    An incomplete download, for example after Ctrl-C, is kept in ``NAME.part``, and the next call
    continues it.

    Args:
        archive: what to fetch.
        folder: where to keep it; it is created.

    Returns:
        The path of the file.

    Raises:
        InputError: the file cannot be downloaded or written, or has another checksum.
    """
    target = folder / archive.name
    part = part_of(target)

    def downloader(url: str, given: str, _: object) -> None:
        """Fill the temporary file ``given``; pooch calls this and then computes the checksum."""
        check_space(folder, missing(archive, folder))
        download(url, part)
        hand_over(part, Path(given))

    pooch.get_logger().setLevel("WARNING")  # the progress bar shows the rest
    try:
        with writing_to(folder):
            pooch.retrieve(archive.url, archive.checksum, archive.name, folder, None, downloader)
            part.unlink(missing_ok=True)
    except InputError:
        raise
    except ValueError as error:  # of pooch: another checksum
        part.unlink(missing_ok=True)
        raise InputError(
            f"{archive.url}: the file is not the expected one\n  {error}\n"
            "Run the same command to download it again. If this happens again, the file has "
            "changed at its source."
        ) from error
    return target


def part_of(target: Path) -> Path:
    """The file that holds ``target`` while it is incomplete."""
    return target.with_name(f"{target.name}.part")


def missing(archive: Archive, folder: Path) -> int:
    """The number of bytes still to be downloaded; 0 if it is unknown."""
    target = folder / archive.name
    if archive.size is None or target.exists():
        return 0
    return max(0, archive.size - size(part_of(target)))


def size(path: Path) -> int:
    """The number of bytes of a file; 0 if there is none."""
    return path.stat().st_size if path.exists() else 0


def check_space(folder: Path, needed: int) -> None:
    """Raise an error unless ``needed`` bytes fit on the disk of ``folder``.

    Raises:
        InputError: there is less free space.
    """
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise InputError(
            f"{folder.absolute()}: {needed / 1e9:.2f} GB are needed and {free / 1e9:.2f} GB are "
            "free; free some space, or name a folder on another disk"
        )


def hand_over(part: Path, given: Path) -> None:
    """Make ``given`` the file ``part``.

    Both names then refer to the same file. If the slow checksum is interrupted, pooch removes
    ``given``, and the part remains.
    """
    given.unlink()
    try:
        given.hardlink_to(part)
    except OSError:  # a file system without links
        part.replace(given)


def download(url: str, part: Path) -> None:
    """Download the file at ``url`` to ``part``, continuing from the bytes that ``part`` holds.

    Raises:
        InputError: the server refuses, or ``ATTEMPTS`` attempts in a row brought no new byte.
    """
    furthest, failed = size(part), 0
    with progress_bar() as bar:
        task = bar.add_task(part.stem, completed=furthest, total=None)
        while True:
            try:
                stream(url, part, bar, task)
                return
            except (requests.RequestException, HTTPError) as error:
                failed = 1 if size(part) > furthest else failed + 1
                if failed >= ATTEMPTS or is_refusal(error):
                    raise InputError(how_to_continue(url, part, reason(error))) from error
            furthest = max(furthest, size(part))
            time.sleep(PAUSE * failed)


def stream(url: str, part: Path, bar: Progress, task: TaskID) -> None:
    """One attempt to append to ``part`` the missing bytes of the file at ``url``.

    Raises:
        requests.RequestException: no connection, or an HTTP error.
        HTTPError: the connection was lost during the download.
    """
    start = size(part)
    headers = {"Accept-Encoding": "identity"}  # Range counts the bytes that are sent
    if start:
        headers["Range"] = f"bytes={start}-"
    with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT) as answer:
        sent = answer.headers.get("Content-Range", "")
        if answer.status_code == 416 and sent == f"bytes */{start}":
            return  # the part is complete
        misplaced = answer.status_code == 206 and not sent.startswith(f"bytes {start}-")
        if start and (answer.status_code == 416 or misplaced):
            part.unlink()
            stream(url, part, bar, task)
            return
        answer.raise_for_status()
        if answer.status_code != 206:  # the server sends the whole file, not the requested range
            start = 0
        length = answer.headers.get("Content-Length")
        total = start + int(length) if length else None
        bar.reset(task, completed=start, total=total)
        with part.open("ab" if start else "wb") as file:
            for chunk in answer.raw.stream(CHUNK, decode_content=False):
                file.write(chunk)
                bar.advance(task, len(chunk))
    if total is not None and size(part) < total:  # urllib3 before 2.0 does not raise this
        raise IncompleteRead(size(part), total - size(part))


def progress_bar() -> Progress:
    """A progress bar with bytes, rate and time left, which disappears at the end."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        transient=True,
    )


def is_refusal(error: Exception) -> bool:
    """Whether another attempt would fail too, for example because the file does not exist."""
    if not isinstance(error, requests.HTTPError) or error.response is None:
        return False
    status = error.response.status_code
    return status < 500 and status not in (408, 429)  # a timeout, too many requests


def reason(error: BaseException) -> str:
    """The message of the first error in a chain."""
    if isinstance(error, requests.HTTPError) and error.response is not None:
        return f"HTTP {error.response.status_code} {error.response.reason}"
    while (cause := error.__cause__ or error.__context__) is not None:
        error = cause
    if isinstance(error, TimeoutError):
        return f"no data received for {TIMEOUT:g} s"
    if isinstance(error, IncompleteRead):
        return "the connection was lost"
    return getattr(error, "strerror", None) or str(error)


def how_to_continue(url: str, part: Path, what: str) -> str:
    """The message after a download that failed."""
    target = part.with_suffix("").absolute()
    return (
        f"{url}: {what}\n"
        f"Run the same command again: it continues at {size(part) / 1e6:.1f} MB. Or get the file "
        f"elsewhere, save it as\n  {target}\nand run the same command."
    )
