"""Leftovers of killed processes are found, never used as results, and removed."""

from __future__ import annotations

import multiprocessing
import os
from pathlib import Path

import pytest

from occ_lab.utils.files import whole_file, whole_files, whole_folder
from occ_lab.utils.scratch import clean, locked, scratch_beside, visible


def killed_while_writing(target: Path, folder: bool) -> None:
    with scratch_beside(target, folder):
        os._exit(137)


def kill(target: Path, folder: bool) -> None:
    process = multiprocessing.get_context("fork").Process(
        target=killed_while_writing, args=(target, folder)
    )
    process.start()
    process.join()
    assert process.exitcode == 137


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_next_who_writes_a_file_or_folder_removes_what_was_left(tmp_path: Path) -> None:
    kill(tmp_path / "file", folder=False)
    kill(tmp_path / "task", folder=True)
    kill(tmp_path / "other", folder=True)
    assert len(names(tmp_path)) == 3
    with whole_file(tmp_path / "file") as scratch:
        scratch.write_text("x")
    with whole_folder(tmp_path / "task"):
        pass
    left, *rest = names(tmp_path)
    assert left.startswith(".other.")
    assert rest == ["file", "task"]


def test_what_another_process_writes_to_is_not_removed(tmp_path: Path) -> None:
    with whole_folder(tmp_path / "task") as slow:
        (slow / "slow").touch()
        with whole_folder(tmp_path / "task") as fast:
            (fast / "fast").touch()
        clean(tmp_path)
        assert (slow / "slow").exists()
    assert names(tmp_path / "task") == ["fast"]


def test_a_run_directory_is_cleaned(tmp_path: Path) -> None:
    for name in ("brick", ".brick.5co4f8rf", ".grass.x", "brick/.kept"):
        (tmp_path / "tasks" / name).mkdir(parents=True)
    (tmp_path / "densities" / "kde" / "tasks" / ".a.0a1b2c3d").mkdir(parents=True)
    (tmp_path / ".hydra").mkdir()
    for name in (".metrics.json.0a1b2c3d", ".running.lock", ".env", "streams", ".backup.20261126"):
        (tmp_path / name).touch()
    (tmp_path / "tasks" / "brick" / ".calibration.json.0a1b2c3d").touch()
    clean(tmp_path)
    assert names(tmp_path / "tasks") == ["brick"]
    assert names(tmp_path / "tasks" / "brick") == [".kept"]
    assert names(tmp_path / "densities" / "kde" / "tasks") == []
    kept = [".backup.20261126", ".env", ".hydra", ".running.lock", "densities", "streams", "tasks"]
    assert names(tmp_path) == kept


def test_what_is_hidden_never_matches(tmp_path: Path) -> None:
    for name in ("tasks/a/metrics.json", "tasks/.a.12345678/metrics.json", ".b/a/metrics.json"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).touch()
    assert visible(tmp_path, "*/*/metrics.json") == [tmp_path / "tasks" / "a" / "metrics.json"]
    hidden = tmp_path / ".b"
    assert visible(hidden, "*/metrics.json") == [hidden / "a" / "metrics.json"]  # it was named


def test_a_scratch_that_was_taken_for_a_leftover_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[Path] = []

    def slow(path: Path, wait: bool) -> int | None:
        tried.append(path)
        if len(tried) == 1:
            path.unlink()  # between its making and its lock
        return locked(path, wait)

    monkeypatch.setattr("occ_lab.utils.scratch.locked", slow)
    with scratch_beside(tmp_path / "file", folder=False) as scratch:
        assert tried == [tried[0], scratch]
        assert scratch.exists()


def test_the_main_one_of_several_files_comes_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("model.xml", "model.bin"):
        (tmp_path / name).write_text("earlier")
    moved: list[tuple[str, bool]] = []
    replace = Path.replace

    def watched(self: Path, target: Path) -> Path:
        moved.append((target.name, (tmp_path / "model.xml").exists()))
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", watched)
    with whole_files(tmp_path / "model.xml") as scratch:
        for name in ("model.xml", "model.bin"):
            (scratch / name).write_text("new")
    assert moved == [("model.bin", False), ("model.xml", False)]
    assert {path.read_text() for path in tmp_path.iterdir()} == {"new"}
    assert names(tmp_path) == ["model.bin", "model.xml"]
