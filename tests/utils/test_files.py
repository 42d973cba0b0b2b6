"""Files and folders are written completely or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from occ_lab.utils.files import whole_file, whole_folder, write_whole


def test_folder_appears_at_the_end(tmp_path: Path) -> None:
    target = tmp_path / "a" / "result"
    with whole_folder(target) as scratch:
        (scratch / "file").write_text("x")
        assert not target.exists()
    assert (target / "file").read_text() == "x"
    assert [path.name for path in target.parent.iterdir()] == ["result"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_nothing_is_left_of_a_failure(tmp_path: Path, error: type[BaseException]) -> None:
    def fail() -> None:
        with whole_folder(tmp_path / "result") as scratch:
            (scratch / "file").write_text("x")
            raise error

    with pytest.raises(error):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_the_faster_process_wins(tmp_path: Path) -> None:
    target = tmp_path / "result"
    with whole_folder(target) as slow:
        (slow / "slow").touch()
        with whole_folder(target) as fast:
            (fast / "fast").touch()
    assert [path.name for path in tmp_path.rglob("*")] == ["result", "fast"]


def test_file_appears_at_the_end(tmp_path: Path) -> None:
    target = tmp_path / "a" / "result.bin"
    for content in (b"first", b"then"):
        with whole_file(target) as scratch:
            assert scratch.parent == target.parent, "the last step is a rename"
            scratch.write_bytes(content)
            assert not target.exists() or target.read_bytes() == b"first"
        assert target.read_bytes() == content
        assert list(target.parent.iterdir()) == [target]
    assert target.stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_a_failure_leaves_the_earlier_file(tmp_path: Path, error: type[BaseException]) -> None:
    def fail(target: Path) -> None:
        with whole_file(target) as scratch:
            scratch.write_text("half")
            raise error

    (tmp_path / "there").write_text("before")
    for name in ("there", "new"):
        with pytest.raises(error):
            fail(tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == ["there"]
    assert (tmp_path / "there").read_text() == "before"


def test_what_replaced_the_scratch_file_counts(tmp_path: Path) -> None:
    # A library may write beside and rename, as safetensors does.
    with whole_file(tmp_path / "result") as scratch:
        (tmp_path / "other").write_text("x")
        (tmp_path / "other").replace(scratch)
    assert (tmp_path / "result").read_text() == "x"


def test_write_replaces_whole(tmp_path: Path) -> None:
    target = tmp_path / "text.json"
    write_whole(target, "old")
    write_whole(target, "größer\n")
    assert target.read_bytes() == "größer\n".encode()
    write_whole(target, "\udcff.png")  # a byte of a name that is not UTF-8
    assert target.read_bytes() == rb"\udcff.png"
    assert [path.name for path in tmp_path.iterdir()] == ["text.json"]


def test_files_and_folders_have_the_rights_that_the_user_gives(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_whole(tmp_path / "file", "x")
        with whole_folder(tmp_path / "folder") as scratch:
            (scratch / "inside").touch()
        with whole_file(tmp_path / "tensors") as scratch:
            save_file({"zero": torch.zeros(1)}, scratch)
    finally:
        os.umask(before)
    names = ("file", "folder", "tensors")
    modes = [(tmp_path / name).stat().st_mode & 0o777 for name in names]
    assert modes == [0o640, 0o750, 0o640]


def test_what_has_its_final_name_is_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[tuple[int, bool]] = []  # each inode, and whether the final name was there
    target = tmp_path / "task"
    fsync = os.fsync

    def watched(descriptor: int) -> None:
        synced.append((os.fstat(descriptor).st_ino, target.exists()))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", watched)
    with whole_folder(target) as scratch:
        (scratch / "checkpoints").mkdir()
        (scratch / "checkpoints" / "last.ckpt").write_text("x")
    before = {inode for inode, named in synced if not named}
    assert before == {path.stat().st_ino for path in [target, *target.rglob("*")]}
    assert synced[-1] == (tmp_path.stat().st_ino, True)
    synced.clear()
    write_whole(target / "metrics.json", "{}")
    inodes = [path.stat().st_ino for path in (target / "metrics.json", target)]
    assert [inode for inode, _ in synced] == inodes
