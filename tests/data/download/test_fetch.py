"""Downloads are verified, resumed, and unpacked completely or not at all; from a local server."""

from __future__ import annotations

import errno
import gzip
import hashlib
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, cast

import pooch.core
import pytest
from filelock import FileLock
from rich.progress import Progress

from occ_lab.data.download import fetch as download
from occ_lab.data.download.fetch import Archive, fetch, install
from occ_lab.utils.errors import InputError
from tests.data.download.archives import BODY, HALF, names, tar_of, tree, zip_of


class Server(ThreadingHTTPServer):
    """Serves ``files``; each request uses the next of ``faults``, which says how it fails.

    A fault is a status to answer with, or words: ``cut`` (the connection ends half-way, or ``at
    once``), ``stall`` (nothing comes after the half), ``no ranges``, ``misplaced`` (a wrong range).
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.faults: list[str | int] = []
        self.ranges: list[str | None] = []  # the Range header of each request
        self.sent: list[int] = []  # bytes of each answer
        self.done = threading.Event()

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/{name}"

    def archive(self, name: str, body: bytes = BODY, **facts: Any) -> Archive:
        self.files[f"/{name}"] = body
        return Archive(self.url(name), f"sha256:{hashlib.sha256(body).hexdigest()}", **facts)


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        server = cast(Server, self.server)
        body = server.files.get(self.path)
        asked = self.headers["Range"]
        server.ranges.append(asked)
        fault = server.faults.pop(0) if server.faults else ""
        start = 0
        if isinstance(fault, int):
            self.send_error(fault)
            return
        if body is None:
            self.send_error(404)
            return
        if asked and "no ranges" not in fault:
            start = int(re.fullmatch(r"bytes=(\d+)-", asked)[1])  # type: ignore[index]
            if start >= len(body):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(body)}")
                self.end_headers()
                return
            self.send_response(206)
            placed = 0 if fault == "misplaced" else start
            self.send_header("Content-Range", f"bytes {placed}-{len(body) - 1}/{len(body)}")
        else:
            self.send_response(200)
        rest = body[start:]
        self.send_header("Content-Length", str(len(rest)))
        self.end_headers()
        sent = rest
        if "cut" in fault or fault == "stall":
            sent = rest[: 0 if "at once" in fault else len(rest) // 2]
        server.sent.append(len(sent))
        self.wfile.write(sent)
        if fault == "stall":
            server.done.wait(10)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(download, "PAUSE", 0)
    monkeypatch.setattr(download, "TIMEOUT", 5)
    monkeypatch.setattr(download, "CHUNK", 1000)
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        yield running
        running.done.set()
        running.shutdown()
        thread.join()


def test_a_file_is_fetched_once(server: Server, tmp_path: Path) -> None:
    archive = server.archive("some%20data.zip", size=len(BODY))
    path = fetch(archive, tmp_path / "new" / "folder")
    assert path == tmp_path / "new" / "folder" / "some data.zip"
    assert path.read_bytes() == BODY
    assert fetch(archive, path.parent) == path
    assert names(path.parent) == ["some data.zip"]
    assert server.ranges == [None]


def test_a_file_put_there_by_hand_is_taken(server: Server, tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(BODY)
    (tmp_path / "a.zip.part").write_bytes(BODY[:10])
    fetch(server.archive("a.zip"), tmp_path)
    assert server.ranges == []
    assert names(tmp_path) == ["a.zip"]


def test_a_wrong_file_of_the_name_is_replaced(server: Server, tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(b"old")
    assert fetch(server.archive("a.zip"), tmp_path).read_bytes() == BODY


def test_an_interrupted_download_goes_on(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = server.archive("a.zip")
    shown = 0

    def interrupt(*_: object) -> None:
        nonlocal shown
        shown += 1
        if shown == 20:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Progress, "advance", interrupt)
        with pytest.raises(KeyboardInterrupt):
            fetch(archive, tmp_path)
    assert names(tmp_path) == ["a.zip.part"]
    kept = (tmp_path / "a.zip.part").stat().st_size
    assert 0 < kept < len(BODY)
    assert fetch(archive, tmp_path).read_bytes() == BODY
    assert server.ranges == [None, f"bytes={kept}-"]
    assert server.sent[1] == len(BODY) - kept
    assert names(tmp_path) == ["a.zip"]


@pytest.mark.parametrize("links", [True, False])
def test_an_interrupted_checksum_is_taken_again(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    def no_links(*_: object) -> None:
        raise OSError(errno.EPERM, "no links here")

    archive = server.archive("a.zip")
    if not links:
        monkeypatch.setattr(Path, "hardlink_to", no_links)
    with monkeypatch.context() as patch:
        patch.setattr(pooch.core, "hash_matches", interrupt)
        with pytest.raises(KeyboardInterrupt):
            fetch(archive, tmp_path)
    assert names(tmp_path) == (["a.zip.part"] if links else [])
    assert fetch(archive, tmp_path).read_bytes() == BODY
    assert server.sent == ([len(BODY)] if links else [len(BODY)] * 2)
    assert names(tmp_path) == ["a.zip"]


def test_a_dropped_connection_is_taken_up_at_once(server: Server, tmp_path: Path) -> None:
    server.faults = ["cut", 503, "cut"]
    assert fetch(server.archive("a.zip"), tmp_path).read_bytes() == BODY
    assert server.ranges[0] is None
    assert None not in server.ranges[1:]
    assert sum(server.sent) < len(BODY) + 3 * download.CHUNK


def test_attempts_that_bring_something_are_not_counted(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "ATTEMPTS", 2)
    server.faults = ["cut", "cut", "cut", "cut"]
    assert fetch(server.archive("a.zip"), tmp_path).read_bytes() == BODY


@pytest.mark.parametrize("fault", ["cut at once", "cut, no ranges"])
def test_a_file_always_cut_at_one_place_is_given_up(
    server: Server, tmp_path: Path, fault: str
) -> None:
    server.faults = [fault] * 20
    archive = server.archive("a.zip")
    with pytest.raises(InputError, match=rf"{archive.url}: the connection was lost"):
        fetch(archive, tmp_path)
    assert len(server.ranges) <= download.ATTEMPTS + 1


@pytest.mark.parametrize("fault", ["no ranges", "misplaced"])
def test_a_server_that_cannot_go_on_begins_anew(server: Server, tmp_path: Path, fault: str) -> None:
    server.faults = ["cut", fault]
    assert fetch(server.archive("a.zip"), tmp_path).read_bytes() == BODY
    assert server.ranges[1] is not None
    assert len(BODY) in server.sent  # not always last: the server may count an answer late


def test_a_part_longer_than_the_file_is_begun_anew(server: Server, tmp_path: Path) -> None:
    (tmp_path / "a.zip.part").write_bytes(BODY + b"more")
    assert fetch(server.archive("a.zip"), tmp_path).read_bytes() == BODY
    assert server.ranges == [f"bytes={len(BODY) + 4}-", None]


def test_a_part_that_was_whole_is_not_fetched_again(server: Server, tmp_path: Path) -> None:
    (tmp_path / "a.zip.part").write_bytes(BODY)
    assert fetch(server.archive("a.zip"), tmp_path).read_bytes() == BODY
    assert server.sent == []


def test_a_wrong_checksum_is_said_and_the_part_removed(server: Server, tmp_path: Path) -> None:
    archive = server.archive("a.zip")
    server.files["/a.zip"] = BODY[::-1]
    found = hashlib.sha256(BODY[::-1]).hexdigest()
    with pytest.raises(InputError) as error:
        fetch(archive, tmp_path)
    for said in (archive.url, archive.checksum, found, "same command"):
        assert said in str(error.value)
    assert names(tmp_path) == []
    server.files["/a.zip"] = BODY
    assert fetch(archive, tmp_path).read_bytes() == BODY


def test_a_server_that_stalls_is_given_up_and_the_part_kept(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "TIMEOUT", 0.1)
    monkeypatch.setattr(download, "ATTEMPTS", 1)
    server.faults = ["stall"]
    archive = server.archive("a.zip")
    with pytest.raises(InputError, match=r"no data received for 0\.1 s\n.*continues at") as error:
        fetch(archive, tmp_path)
    assert str(tmp_path / "a.zip") in str(error.value)
    assert 0 < (tmp_path / "a.zip.part").stat().st_size <= HALF
    monkeypatch.setattr(download, "TIMEOUT", 5)
    assert fetch(archive, tmp_path).read_bytes() == BODY
    assert sum(server.sent) < len(BODY) + 2 * download.CHUNK


def test_no_such_file_is_asked_for_once(server: Server, tmp_path: Path) -> None:
    (tmp_path / "a.zip.part").write_bytes(BODY[:HALF])
    archive = Archive(server.url("a.zip"), "md5:0")
    with pytest.raises(InputError, match=rf"{archive.url}: HTTP 404 Not Found"):
        fetch(archive, tmp_path)
    assert len(server.ranges) == 1
    assert names(tmp_path) == ["a.zip.part"]


def test_a_server_in_trouble_is_asked_again(server: Server, tmp_path: Path) -> None:
    server.faults = [503] * 20
    with pytest.raises(InputError, match="HTTP 503"):
        fetch(server.archive("a.zip"), tmp_path)
    assert len(server.ranges) == download.ATTEMPTS


@pytest.mark.usefixtures("server")  # for its settings
def test_no_connection_says_how_to_get_it_by_hand(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}/a.zip"
    with pytest.raises(InputError) as error:
        fetch(Archive(url, "md5:0"), tmp_path)
    for said in (f"{url}: Connection refused", "get the file elsewhere", str(tmp_path / "a.zip")):
        assert said in str(error.value)


def test_a_full_disk_is_said_before(server: Server, tmp_path: Path) -> None:
    archive = server.archive("a.zip", size=10**18)
    with pytest.raises(InputError, match=r"1000000000\.00 GB are needed"):
        fetch(archive, tmp_path)
    assert server.ranges == []


def test_a_folder_that_cannot_be_made_is_said(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot write to"):
        fetch(server.archive("a.zip"), tmp_path / "file")


# Unpacking


def several(server: Server) -> list[Archive]:
    return [
        server.archive("a.zip", zip_of({"all/1": b"1"})),
        server.archive("b.tar", tar_of({"all/2": b"2"}), size=10_240),
        server.archive("c.gz", gzip.compress(b"3"), into="deep/er"),
    ]


def test_archives_are_installed_and_removed(server: Server, tmp_path: Path) -> None:
    install(several(server), tmp_path / "root")
    assert tree(tmp_path / "root") == {"all/1": b"1", "all/2": b"2", "deep/er/c": b"3"}
    assert names(tmp_path / "root") == ["all", "deep"]


@pytest.mark.parametrize(("fails", "at"), [("fetch", 2), ("unpack", 2), ("merge", 1)])
def test_a_failed_install_goes_on_with_what_has_come(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: str, at: int
) -> None:
    archives = several(server)
    kept: Callable[..., object] = getattr(download, fails)
    calls = 0

    def broken(*args: Any) -> object:
        nonlocal calls
        calls += 1
        if calls == at:
            raise KeyboardInterrupt
        return kept(*args)

    with monkeypatch.context() as patch:
        patch.setattr(download, fails, broken)
        with pytest.raises(KeyboardInterrupt):
            install(archives, tmp_path)
    assert names(tmp_path) == [".download"]
    install(archives, tmp_path)
    assert tree(tmp_path) == {"all/1": b"1", "all/2": b"2", "deep/er/c": b"3"}
    assert len(server.ranges) == len(archives)


def test_what_is_there_is_not_overwritten_and_archives_are_kept(
    server: Server, tmp_path: Path
) -> None:
    (tmp_path / "all").mkdir()
    (tmp_path / "all" / "2").write_bytes(b"mine")
    with pytest.raises(InputError, match="exists already"):
        install(several(server), tmp_path)
    (tmp_path / "all" / "2").unlink()
    install(several(server), tmp_path)
    assert len(server.ranges) == 3


def test_two_archives_must_not_hold_the_same_file(server: Server, tmp_path: Path) -> None:
    twice = [server.archive(name, zip_of({"all/1": b""})) for name in ("a.zip", "b.zip")]
    with pytest.raises(InputError, match="exists already"):
        install(twice, tmp_path)
    assert names(tmp_path) == [".download"]


def test_two_archives_must_not_have_one_name(tmp_path: Path) -> None:
    twice = [Archive(f"http://localhost/{part}/a.zip", "md5:0") for part in ("train", "test")]
    with pytest.raises(ValueError, match="two have the same name"):
        install(twice, tmp_path)


def test_what_a_killed_process_unpacked_is_removed(server: Server, tmp_path: Path) -> None:
    left = tmp_path / ".download" / "unpacked" / "half"
    left.mkdir(parents=True)
    install(several(server), tmp_path)
    assert names(tmp_path) == ["all", "deep"]


def test_room_is_wanted_for_the_unpacked_too(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = server.archive("a.zip", zip_of({"a": BODY}), size=1_000)
    usage = download.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(download.shutil, "disk_usage", lambda _: usage._replace(free=1_999))
    with pytest.raises(InputError, match="are needed"):
        install([archive], tmp_path)
    monkeypatch.setattr(download.shutil, "disk_usage", lambda _: usage._replace(free=2_000))
    install([archive], tmp_path)


def test_one_process_at_a_time(server: Server, tmp_path: Path) -> None:
    (tmp_path / ".download").mkdir()
    with (
        FileLock(tmp_path / ".download" / "lock"),
        pytest.raises(InputError, match="another process is downloading"),
    ):
        install(several(server), tmp_path)


def test_torch_is_not_imported() -> None:
    code = "import sys, occ_lab.data.download.fetch; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
