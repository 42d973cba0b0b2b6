"""Unpacking: all or nothing, and nothing outside."""

from __future__ import annotations

import errno
import gzip
import os
import re
import stat
import tarfile
from pathlib import Path

import pytest

from occ_lab.data.download.unpack import unpack
from occ_lab.utils.errors import InputError
from tests.data.download.archives import BODY, HALF, names, tar_of, tree, zip_of

FILES = {"images/1.png": b"one", "images/deep/2.png": b"two", "readme": b"read"}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.zip", zip_of(FILES)),
        ("a.ZIP", zip_of(FILES)),
        ("a.tar", tar_of(FILES)),
        ("a.tar.gz", tar_of(FILES, "w:gz")),
        ("a.tgz", tar_of(FILES, "w:gz")),
        ("a.tar.xz", tar_of(FILES, "w:xz")),
    ],
)
def test_all_of_an_archive_is_unpacked(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    unpack(tmp_path / name, tmp_path / "new" / "folder")
    assert tree(tmp_path / "new" / "folder") == FILES
    assert names(tmp_path / "new" / "folder") == ["images", "readme"]


def test_a_single_file_loses_its_suffix(tmp_path: Path) -> None:
    (tmp_path / "digits-ubyte.gz").write_bytes(gzip.compress(BODY))
    unpack(tmp_path / "digits-ubyte.gz", tmp_path / "to")
    assert tree(tmp_path / "to") == {"digits-ubyte": BODY}


def test_an_unknown_kind_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.rar").write_bytes(BODY)
    with pytest.raises(InputError, match=r"a\.rar: its name must end in \.tar"):
        unpack(tmp_path / "a.rar", tmp_path / "to")


def refused(tmp_path: Path, name: str, content: bytes, match: str) -> None:
    """Nothing is written, neither within nor outside of the folder."""
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=match):
        unpack(tmp_path / name, tmp_path / "to")
    assert names(tmp_path) == [name, "to"]
    assert names(tmp_path / "to") == []


@pytest.mark.parametrize(
    "member",
    ["../evil", "good/../../evil", "/evil", "..\\evil", "\\evil", "C:\\evil", "C:evil", "//h/s/e"],
)
def test_a_zip_that_leaves_its_folder_is_refused(tmp_path: Path, member: str) -> None:
    match = rf"a\.zip: refused, since {re.escape(repr(member))} in it would leave"
    refused(tmp_path, "a.zip", zip_of({"good": b"", member: b"evil"}), match)


def test_a_zip_with_a_link_is_refused(tmp_path: Path) -> None:
    content = zip_of({"link": b"/etc"}, mode=stat.S_IFLNK | 0o777)
    refused(tmp_path, "a.zip", content, "'link' in it is a link")


def test_a_tar_that_leaves_its_folder_is_refused(tmp_path: Path) -> None:
    content = tar_of({"good": b"", "../evil": b"evil"})
    refused(tmp_path, "a.tar", content, r"a\.tar: refused, since '\.\./evil'")


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE])
@pytest.mark.parametrize("aim", ["/etc/passwd", "../../passwd"])
def test_a_tar_with_a_link_outwards_is_refused(tmp_path: Path, kind: bytes, aim: str) -> None:
    content = tar_of({"link": b""}, "w:gz", type=kind, linkname=aim)
    refused(tmp_path, "a.tar.gz", content, r"a\.tar\.gz: refused, since 'link'")


def test_a_tar_with_a_device_is_refused(tmp_path: Path) -> None:
    refused(tmp_path, "a.tar", tar_of({"fifo": b""}, type=tarfile.FIFOTYPE), "'fifo'")


def test_an_absolute_member_of_a_tar_stays_in_the_folder(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(tar_of({"/occ-lab-evil": b"x"}))
    unpack(tmp_path / "a.tar", tmp_path / "to")
    assert tree(tmp_path / "to") == {"occ-lab-evil": b"x"}
    assert not Path("/occ-lab-evil").exists()


def test_a_python_without_the_filter_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(tarfile, "data_filter")
    refused(tmp_path, "a.tar", tar_of(FILES), r"3\.11\.4")


def flipped(content: bytes, place: int) -> bytes:
    return content[:place] + bytes([content[place] ^ 0xFF]) + content[place + 1 :]


LARGE = {"1": b"one", "noise": BODY}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.zip", zip_of(LARGE)[:HALF]),
        ("a.zip", flipped(zip_of(LARGE), HALF)),
        ("a.zip", b""),
        ("a.tar", tar_of(LARGE)[:HALF]),
        ("a.tar", BODY),
        ("a.tar.gz", tar_of(LARGE, "w:gz")[:HALF]),
        ("a.tar.gz", flipped(tar_of(LARGE, "w:gz"), 100)),
        ("a.tar.xz", tar_of(LARGE, "w:xz")[:HALF]),
        ("a.gz", gzip.compress(BODY)[:HALF]),
        ("a.gz", flipped(gzip.compress(BODY), HALF)),
        ("a.gz", BODY),
    ],
)
def test_a_damaged_archive_leaves_nothing(tmp_path: Path, name: str, content: bytes) -> None:
    refused(tmp_path, name, content, rf"{re.escape(name)}: cannot be unpacked")


def test_folders_are_merged(tmp_path: Path) -> None:
    for name, files in (("a.zip", {"all/1": b"1", "a": b"a"}), ("b.zip", {"all/2": b"2"})):
        (tmp_path / name).write_bytes(zip_of(files))
        unpack(tmp_path / name, tmp_path / "to")
    assert tree(tmp_path / "to") == {"all/1": b"1", "all/2": b"2", "a": b"a"}


@pytest.mark.parametrize("clash", ["x/last", "x", "x/last/deeper"])
def test_nothing_is_overwritten(tmp_path: Path, clash: str) -> None:
    there = tmp_path / "to" / clash
    there.parent.mkdir(parents=True)
    there.write_bytes(b"mine")
    (tmp_path / "a.zip").write_bytes(zip_of({"a": b"", "x/first": b"", "x/last": b"theirs"}))
    with pytest.raises(InputError, match="exists already"):
        unpack(tmp_path / "a.zip", tmp_path / "to")
    assert tree(tmp_path / "to") == {clash: b"mine"}


def test_a_link_that_leads_nowhere_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "to").mkdir()
    (tmp_path / "to" / "a").symlink_to(tmp_path / "nowhere")
    (tmp_path / "a.zip").write_bytes(zip_of({"a": b""}))
    with pytest.raises(InputError, match="exists already"):
        unpack(tmp_path / "a.zip", tmp_path / "to")


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), MemoryError()])
def test_a_failure_on_the_way_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def broken(_: Path, folder: Path) -> None:
        (folder / "first").touch()
        raise error

    monkeypatch.setattr("occ_lab.data.download.unpack.extract_zip", broken)
    with pytest.raises(InputError if isinstance(error, OSError) else MemoryError) as raised:
        unpack(tmp_path / "a.zip", tmp_path / "to")
    assert names(tmp_path / "to") == []
    if isinstance(error, OSError):
        assert "No space left" in str(raised.value)
