"""Fetching a benchmark's archives: verified, resumable, installed whole or not at all.

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

TIMEOUT = 30.0  # seconds without a connection, or without a byte
ATTEMPTS = 4  # in a row that bring nothing new
PAUSE = 1.0  # seconds before the second attempt; longer before each further one
CHUNK = 1 << 16  # bytes; what a dropped connection may lose
DOWNLOADS = ".download"  # under the root: the archives, and what is unpacked of them


@dataclass(frozen=True)
class Archive:
    """A file to download.

    Attributes:
        url: its address.
        checksum: ``md5:...`` or ``sha256:...``.
        size: in bytes; None where it is unknown.
        into: the subfolder of the root that it is unpacked into; empty for the root.
    """

    url: str
    checksum: str
    size: int | None = None
    into: str = ""

    @property
    def name(self) -> str:
        """What the file is called on disk: the last part of the address."""
        return PurePosixPath(unquote(urlsplit(self.url).path)).name


def install(archives: Sequence[Archive], root: Path) -> None:
    """Fetch and unpack archives; they lie in ``root/.download`` until all of their content is in.

    Their folders are merged with those under ``root``; no file is overwritten.

    Args:
        archives: what to fetch, no two of the same name.
        root: the folder that their content goes into; it is made.

    Raises:
        InputError: as ``fetch`` and ``unpack`` do; or another process is at it.
    """
    names = [archive.name for archive in archives]
    if len(set(names)) < len(names):
        raise ValueError(f"two archives of one name: {', '.join(names)}")
    downloads = root / DOWNLOADS
    with writing_to(root):
        downloads.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(downloads / "lock", timeout=0):
            # Images do not compress: unpacked, an archive takes its own size at least.
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
    """The verified file in ``folder``, downloaded unless it is there.

    What has come so far is kept in ``NAME.part``, on Ctrl-C too, and the next call goes on from
    there.

    Args:
        archive: what to fetch.
        folder: where to keep it; it is made.

    Returns:
        The path of the file.

    Raises:
        InputError: it cannot be had, is not what was expected, or cannot be written.
    """
    target = folder / archive.name
    part = part_of(target)

    def downloader(url: str, given: str, _: object) -> None:
        """As pooch calls it: fill the temporary file ``given``, whose checksum it then takes."""
        check_space(folder, missing(archive, folder))
        download(url, part)
        hand_over(part, Path(given))

    pooch.get_logger().setLevel("WARNING")  # the progress bar says the rest
    try:
        with writing_to(folder):
            pooch.retrieve(archive.url, archive.checksum, archive.name, folder, None, downloader)
            part.unlink(missing_ok=True)
    except InputError:
        raise
    except ValueError as error:  # of pooch: another checksum
        part.unlink(missing_ok=True)
        raise InputError(
            f"{archive.url}: not the file that was expected\n  {error}\n"
            "Run the same command again: it starts again. If it ends like this once more, the "
            "file has changed at its source."
        ) from error
    return target


def part_of(target: Path) -> Path:
    """Where the bytes of ``target`` are gathered."""
    return target.with_name(f"{target.name}.part")


def missing(archive: Archive, folder: Path) -> int:
    """How many bytes are still to come, as far as that is known."""
    target = folder / archive.name
    if archive.size is None or target.exists():
        return 0
    return max(0, archive.size - size(part_of(target)))


def size(path: Path) -> int:
    """Bytes of a file, 0 where there is none."""
    return path.stat().st_size if path.exists() else 0


def check_space(folder: Path, needed: int) -> None:
    """Raise unless ``needed`` bytes fit on the disk of ``folder``.

    Raises:
        InputError: they do not.
    """
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise InputError(
            f"{folder.absolute()}: {needed / 1e9:.2f} GB are needed and {free / 1e9:.2f} GB are "
            "free; make room, or name a folder on another disk"
        )


def hand_over(part: Path, given: Path) -> None:
    """Make ``given`` the file ``part``.

    As a second name of it, since pooch removes ``given`` when the checksum, which takes a while,
    is interrupted; the part then stays.
    """
    given.unlink()
    try:
        given.hardlink_to(part)
    except OSError:  # a file system without links
        part.replace(given)


def download(url: str, part: Path) -> None:
    """Gather the file at ``url`` in ``part``, going on from what is there.

    Raises:
        InputError: the server refuses, or ``ATTEMPTS`` attempts in a row brought nothing new.
    """
    furthest, in_vain = size(part), 0
    with progress_bar() as bar:
        task = bar.add_task(part.stem, completed=furthest, total=None)
        while True:
            try:
                stream(url, part, bar, task)
                return
            except (requests.RequestException, HTTPError) as error:
                in_vain = 1 if size(part) > furthest else in_vain + 1
                if in_vain >= ATTEMPTS or is_refusal(error):
                    raise InputError(how_to_go_on(url, part, reason(error))) from error
            furthest = max(furthest, size(part))
            time.sleep(PAUSE * in_vain)


def stream(url: str, part: Path, bar: Progress, task: TaskID) -> None:
    """One attempt: append to ``part`` what it lacks of the file at ``url``.

    Raises:
        requests.RequestException: no connection, or an HTTP error.
        HTTPError: the connection was lost on the way.
    """
    start = size(part)
    headers = {"Accept-Encoding": "identity"}  # Range counts the bytes as they are sent
    if start:
        headers["Range"] = f"bytes={start}-"
    with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT) as answer:
        sent = answer.headers.get("Content-Range", "")
        if answer.status_code == 416 and sent == f"bytes */{start}":
            return  # the part was whole
        misplaced = answer.status_code == 206 and not sent.startswith(f"bytes {start}-")
        if start and (answer.status_code == 416 or misplaced):
            part.unlink()
            stream(url, part, bar, task)
            return
        answer.raise_for_status()
        if answer.status_code != 206:  # the whole file, though a part of it was asked for
            start = 0
        length = answer.headers.get("Content-Length")
        total = start + int(length) if length else None
        bar.reset(task, completed=start, total=total)
        with part.open("ab" if start else "wb") as file:
            for chunk in answer.raw.stream(CHUNK, decode_content=False):
                file.write(chunk)
                bar.advance(task, len(chunk))
    if total is not None and size(part) < total:  # urllib3 before 2.0 does not mind
        raise IncompleteRead(size(part), total - size(part))


def progress_bar() -> Progress:
    """Bytes, rate and time left; it vanishes at the end."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        transient=True,
    )


def is_refusal(error: Exception) -> bool:
    """Whether the server would answer the same at once: no such file, no permission."""
    if not isinstance(error, requests.HTTPError) or error.response is None:
        return False
    status = error.response.status_code
    return status < 500 and status not in (408, 429)  # too slow, too often


def reason(error: BaseException) -> str:
    """What went wrong, in the words of the first of a chain of errors."""
    if isinstance(error, requests.HTTPError) and error.response is not None:
        return f"HTTP {error.response.status_code} {error.response.reason}"
    while (cause := error.__cause__ or error.__context__) is not None:
        error = cause
    if isinstance(error, TimeoutError):
        return f"nothing came for {TIMEOUT:g} s"
    if isinstance(error, IncompleteRead):
        return "the connection was lost"
    return getattr(error, "strerror", None) or str(error)


def how_to_go_on(url: str, part: Path, what: str) -> str:
    """The message after a download that failed."""
    target = part.with_suffix("").absolute()
    return (
        f"{url}: {what}\n"
        f"Run the same command again: it goes on where it stopped, at {size(part) / 1e6:.1f} MB. "
        f"Or get the file elsewhere, put it at\n  {target}\nand run the same command."
    )
