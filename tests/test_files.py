"""Files and folders appear whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from occ_lab.files import whole_folder, write_whole


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


def test_write_replaces_whole(tmp_path: Path) -> None:
    target = tmp_path / "text.json"
    write_whole(target, "old")
    write_whole(target, "größer\n")
    assert target.read_bytes() == "größer\n".encode()
    with pytest.raises(UnicodeEncodeError):
        write_whole(target, "\ud800")
    assert [path.name for path in tmp_path.iterdir()] == ["text.json"]
    assert target.read_text(encoding="utf-8") == "größer\n"
