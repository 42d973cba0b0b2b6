"""The feature cache: entries are complete, computed once, and never stale."""

from __future__ import annotations

import errno
import hashlib
import json
import multiprocessing
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from occ_lab.features import entry_lock
from occ_lab.features.cache import FeatureCache
from occ_lab.features.entry_lock import CacheError, EntryLock
from occ_lab.features.level_files import LevelFile, Levels, has_changed, write_levels
from occ_lab.utils.errors import InputError

KEY = {"backbone": "b", "images": [["a.png", 1, 2]]}


def levels(seed: int = 0, count: int = 6) -> Levels:
    rng = np.random.default_rng(seed)
    return [rng.normal(size=(count, 4, 4, 3)), rng.normal(size=(count, 2, 2, 5))]


def in_batches(of: Levels, size: int = 4) -> Iterator[Levels]:
    for start in range(0, len(of[0]), size):
        yield [level[start : start + size] for level in of]


def get(cache: FeatureCache, seed: int = 0, **changes: object) -> Levels:
    return cache.get({**KEY, **changes}, 6, lambda: in_batches(levels(seed)))


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".lock")


def test_features_come_back_as_half_precision_maps(tmp_path: Path) -> None:
    kept = get(FeatureCache(tmp_path))
    for ours, given in zip(kept, levels(), strict=True):
        assert isinstance(ours, np.memmap)
        assert ours.dtype == np.float16
        np.testing.assert_array_equal(ours, given.astype(np.float16))


def test_a_hit_extracts_nothing(tmp_path: Path) -> None:
    get(FeatureCache(tmp_path))

    def never() -> Iterator[Levels]:
        raise AssertionError("extracted again")

    again = FeatureCache(tmp_path).get(KEY, 6, never)
    np.testing.assert_array_equal(again[0], levels()[0].astype(np.float16))


def test_another_key_is_another_entry(tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path)
    get(cache)
    other = get(cache, seed=1, backbone="c")
    np.testing.assert_array_equal(other[0], levels(1)[0].astype(np.float16))
    assert len(list(cache.entries())) == 2


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_failed_pass_leaves_no_entry(tmp_path: Path, error: type[BaseException]) -> None:
    def broken() -> Iterator[Levels]:
        yield next(in_batches(levels()))
        raise error

    with pytest.raises(error):
        FeatureCache(tmp_path).get(KEY, 6, broken)
    assert names(tmp_path) == []
    assert len(get(FeatureCache(tmp_path))) == 2


def test_a_full_disk_is_reported_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*file_part_level: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(LevelFile, "write", full)
    with pytest.raises(CacheError, match=r"cannot be used \(No space left"):
        get(FeatureCache(tmp_path))
    assert names(tmp_path) == []


def test_an_image_that_cannot_be_read_is_no_fault_of_the_cache(tmp_path: Path) -> None:
    def unreadable() -> Iterator[Levels]:
        yield next(in_batches(levels()))
        raise OSError("7.png: unreadable")

    with pytest.raises(OSError, match=r"^7.png: unreadable$"):
        FeatureCache(tmp_path).get(KEY, 6, unreadable)
    assert names(tmp_path) == []


@pytest.mark.parametrize("how", ["missing", "half", "zeros", "index", "no files"])
def test_a_damaged_entry_is_made_again(
    tmp_path: Path, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    get(FeatureCache(tmp_path))
    (entry,) = FeatureCache(tmp_path).entries()
    level, index = entry.folder / "level0.npy", entry.folder / "entry.json"
    size = level.stat().st_size
    if how == "missing":
        level.unlink()
    elif how == "index":
        index.write_text(index.read_text()[:20])
    elif how == "no files":
        index.write_text("{}")
    else:
        os.truncate(level, size // 2)
        os.truncate(level, size if how == "zeros" else size // 2)
    again = get(FeatureCache(tmp_path))
    np.testing.assert_array_equal(again[0], levels()[0].astype(np.float16))
    assert "a damaged entry is computed again" in caplog.text
    assert [each.problems() for each in FeatureCache(tmp_path).entries()] == [[]]


def test_an_entry_is_verified_once_by_a_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    get(FeatureCache(tmp_path))
    cache = FeatureCache(tmp_path)
    get(cache)
    monkeypatch.setattr("occ_lab.features.cache.has_changed", lambda *file: pytest.fail("again"))
    get(cache)


def test_a_process_that_does_nothing_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(entry_lock, "SOON", 0.5)
    monkeypatch.setattr(entry_lock, "PATIENCE", 2.5)
    caplog.set_level("INFO")
    get(FeatureCache(tmp_path))
    (entry,) = FeatureCache(tmp_path).entries()
    with EntryLock(tmp_path / f"{entry.folder.name}.lock"):
        with pytest.raises(CacheError, match=f"^process {os.getpid()} on .* holds "):
            get(FeatureCache(tmp_path))
        assert "waiting for process" in caplog.text
        FeatureCache(tmp_path).clear()
        assert entry.problems() == []  # not removed, because it is in use
    FeatureCache(tmp_path).clear()
    assert list(tmp_path.iterdir()) == []


def test_levels_outlive_the_removal_of_their_entry(tmp_path: Path) -> None:
    kept = get(FeatureCache(tmp_path))
    FeatureCache(tmp_path).clear()
    np.testing.assert_array_equal(kept[0], levels()[0].astype(np.float16))


def test_a_scratch_folder_is_no_entry(tmp_path: Path) -> None:
    get(FeatureCache(tmp_path))
    (entry,) = FeatureCache(tmp_path).entries()
    entry.folder.rename(tmp_path / f".{entry.folder.name}.5co4f8rf")
    assert list(FeatureCache(tmp_path).entries()) == []


def test_what_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path)
    get(cache)
    (entry,) = cache.entries()
    entry.folder.rename(tmp_path / f".{entry.folder.name}.abcd")
    get(cache)
    assert names(tmp_path) == [entry.folder.name]


@pytest.mark.parametrize("value", [1e6, np.inf, np.nan])
def test_features_beyond_half_precision_are_refused(tmp_path: Path, value: float) -> None:
    too_large = levels()
    too_large[1][5, 0, 0, 0] = value
    with pytest.raises(CacheError, match=r"^a feature is not finite or too large"):
        FeatureCache(tmp_path).get(KEY, 6, lambda: in_batches(too_large))
    assert names(tmp_path) == []


def test_the_oldest_unused_entry_gives_way(tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path)
    for index, name in enumerate("abc"):
        get(cache, backbone=name)
        (newest,) = (e for e in cache.entries() if e.facts["backbone"] == name)
        os.utime(newest.folder / "entry.json", (index, index))
    size = next(cache.entries()).size
    get(cache, backbone="a")  # a hit: a is used again, b is now the oldest
    get(FeatureCache(tmp_path, limit_gb=3.5 * size / 1e9), backbone="d")
    assert {entry.facts["backbone"] for entry in cache.entries()} == {"a", "c", "d"}


def test_an_entry_larger_than_the_limit_is_still_used(tmp_path: Path) -> None:
    assert len(get(FeatureCache(tmp_path, limit_gb=1e-9))) == 2


def test_check_finds_changed_and_missing_files(tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path)
    get(cache)
    (entry,) = cache.entries()
    assert entry.problems() == []
    with (entry.folder / "level0.npy").open("r+b") as file:
        file.seek(200)
        file.write(b"\1\2")
    (entry.folder / "level1.npy").unlink()
    assert [problem.split(": ")[1] for problem in entry.problems()] == [
        "its content has changed",
        "missing",
    ]


def test_clear_removes_everything(tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path)
    get(cache)
    (tmp_path / f".{'0123' * 8}.left").mkdir()
    (tmp_path / "holiday").mkdir()
    cache.clear()
    assert [path.name for path in tmp_path.iterdir()] == ["holiday"]


def produce(folder: Path, log: Path) -> None:
    def noted() -> Iterator[Levels]:
        with log.open("a") as file:
            file.write("x")
        yield from in_batches(levels())

    FeatureCache(folder).get(KEY, 6, noted)


def test_processes_that_want_the_same_make_it_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    log = tmp_path / "log"
    several = [context.Process(target=produce, args=(tmp_path / "cache", log)) for _ in range(3)]
    for process in several:
        process.start()
    for process in several:
        process.join(120)
    assert [process.exitcode for process in several] == [0, 0, 0]
    assert log.read_text() == "x"


@pytest.mark.parametrize("where", [0, 200, -1, None])
def test_checksums_show_a_change_anywhere(tmp_path: Path, where: int | None) -> None:
    parts = write_levels(tmp_path, 6, in_batches(levels()))["level0.npy"]
    path = tmp_path / "level0.npy"
    assert [size for size, _ in parts] == [128, 4 * 4 * 4 * 3 * 2, 2 * 4 * 4 * 3 * 2]
    assert not has_changed(path, parts)
    content = bytearray(path.read_bytes())
    if where is None:
        content.append(0)
    else:
        content[where] ^= 1
    path.write_bytes(content)
    assert has_changed(path, parts)


def test_many_small_batches_keep_their_order(tmp_path: Path) -> None:
    given = levels(count=97)
    write_levels(tmp_path, 97, in_batches(given, size=1))
    for index, level in enumerate(given):
        written = np.load(tmp_path / f"level{index}.npy")
        np.testing.assert_array_equal(written, level.astype(np.float16))


def test_an_entry_of_an_earlier_version_is_used(tmp_path: Path) -> None:
    """Its index has one checksum for each file."""
    get(FeatureCache(tmp_path))
    (index,) = tmp_path.glob("*/entry.json")
    facts = json.loads(index.read_text())
    for name in facts["files"]:
        content = (index.parent / name).read_bytes()
        facts["files"][name] = hashlib.sha256(content).hexdigest()
    index.write_text(json.dumps(facts))
    again = FeatureCache(tmp_path).get(KEY, 6, lambda: pytest.fail("extracted"))
    np.testing.assert_array_equal(again[0], levels()[0].astype(np.float16))
    (index.parent / "level0.npy").write_bytes(b"x")
    (entry,) = FeatureCache(tmp_path).entries()
    assert "level0.npy: its content has changed" in entry.problems()[0]


@pytest.mark.parametrize("limit", [0, -1, "much"])
def test_limit_out_of_range(tmp_path: Path, limit: object) -> None:
    with pytest.raises(ValueError, match=r"^limit_gb must be"):
        FeatureCache(tmp_path, limit_gb=limit)


def test_a_folder_that_cannot_be_made_is_named_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    cache = FeatureCache(tmp_path / "file" / "cache")
    with pytest.raises(CacheError, match="file/cache cannot be used"):
        cache.get(KEY, 6, lambda: pytest.fail("extracted"))


def test_without_a_home_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_home(path: Path) -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "expanduser", no_home)
    with pytest.raises(InputError, match="^dir: you have no home folder for ~/x"):
        FeatureCache("~/x")
    assert FeatureCache("~/x", enabled=False).dir == Path("~/x")


@pytest.mark.parametrize(
    "error", [PermissionError(13, "denied"), OSError(37, "no locks"), NotImplementedError()]
)
def test_a_cache_that_cannot_be_locked_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    made = get(FeatureCache(tmp_path))

    def refused(*given: object, **more: object) -> None:
        raise error

    monkeypatch.setattr("occ_lab.features.entry_lock.FileLock.acquire", refused)
    monkeypatch.setattr(
        os, "utime", lambda path: refused() if isinstance(error, PermissionError) else None
    )
    again = FeatureCache(tmp_path).get(KEY, 6, lambda: pytest.fail("extracted again"))
    assert all(np.array_equal(one, other) for one, other in zip(made, again, strict=True))
    if not isinstance(error, PermissionError):
        assert get(FeatureCache(tmp_path), images="others")  # and made without a lock
