"""Files that arrive in a folder: complete, in halves, renamed, damaged, hidden."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from queue import Queue
from threading import Event, Thread

import numpy as np
import pytest

from occ_lab.data.images import read_image
from occ_lab.engine.watch import Arrival, Arrivals
from occ_lab.utils.errors import InputError, MissingError
from tests.data.trees import noise, save

LONG = 120  # seconds after which a test stops waiting


def put(path: Path, pixels: np.ndarray) -> Path:
    """Write an image that is complete as soon as it has its name."""
    return save(path.parent / f".{path.name}", pixels).rename(path)


class Followed:
    """Follow a folder in a thread while the block runs."""

    def __init__(self, folder: Path, **arguments: object) -> None:
        self.stop = Event()
        self.tried: Queue[Path] = Queue()
        self.came: Queue[Arrival[np.ndarray]] = Queue()

        def read(path: Path) -> np.ndarray:
            try:
                return read_image(path)
            finally:
                self.tried.put(path)

        made = Arrivals(
            folder, read, stop=self.stop, **{"settle": 0.05, "patience": LONG, **arguments}
        )  # type: ignore[arg-type]
        self.thread = Thread(target=lambda: [self.came.put(each) for each in made])

    def __enter__(self) -> Followed:
        self.thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.stop.set()
        self.thread.join(LONG)
        assert not self.thread.is_alive()

    def next(self) -> Arrival[np.ndarray]:
        return self.came.get(timeout=LONG)

    def names(self, count: int) -> list[str]:
        return [self.next().path.name for _ in range(count)]


def test_files_that_are_there_come_in_order_and_then_those_that_arrive(tmp_path: Path) -> None:
    for number in (2, 0, 1):
        save(tmp_path / f"{number}.png", noise(number))
    with Followed(tmp_path, known=[tmp_path / "1.png"]) as followed:
        assert followed.names(2) == ["0.png", "2.png"]
        save(tmp_path / "new.png", noise(3))
        arrival = followed.next()
        assert arrival.path == tmp_path / "new.png"
        assert arrival.content is not None
        np.testing.assert_array_equal(arrival.content, noise(3))
        save(tmp_path / "cam2" / "deep" / "4.png", noise(4))
        assert followed.next().path == tmp_path / "cam2" / "deep" / "4.png"


def test_a_file_that_is_written_in_two_halves_comes_once_and_whole(tmp_path: Path) -> None:
    content = save(tmp_path / "aside" / "whole.png", noise(0)).read_bytes()
    folder = tmp_path / "line"
    folder.mkdir()
    with Followed(folder) as followed, (folder / "part.png").open("wb") as file:
        file.write(content[: len(content) // 2])
        file.flush()
        assert followed.tried.get(timeout=LONG).name == "part.png"  # it cannot be read yet
        file.write(content[len(content) // 2 :])
        file.flush()
        arrival = followed.next()
    assert arrival.error == ""
    assert arrival.content is not None
    np.testing.assert_array_equal(arrival.content, noise(0))
    assert followed.came.empty()


def test_a_file_that_is_renamed_into_place_comes_under_its_name(tmp_path: Path) -> None:
    aside, folder = save(tmp_path / "aside" / "0.png", noise(0)), tmp_path / "line"
    folder.mkdir()
    with Followed(folder) as followed:
        (folder / "copy.png.part").write_bytes(aside.read_bytes())
        (folder / "copy.png.part").rename(folder / "copy.png")
        aside.rename(folder / "moved.png")
        put(folder / "shown.png", noise(1))
        assert sorted(followed.names(3)) == ["copy.png", "moved.png", "shown.png"]


def test_what_stays_unreadable_is_given_up_and_counts_again_when_it_changes(tmp_path: Path) -> None:
    (tmp_path / "no.png").write_bytes(b"no picture")
    with Followed(tmp_path, patience=0.2) as followed:
        given_up = followed.next()
        assert given_up.content is None
        assert given_up.error == f"{tmp_path / 'no.png'}: unreadable (not an image)"
        for number in range(2):  # a camera that writes one name again and again
            put(tmp_path / "no.png", noise(number))
            arrival = followed.next()
            assert (arrival.path.name, arrival.error) == ("no.png", "")
            assert arrival.content is not None
            np.testing.assert_array_equal(arrival.content, noise(number))


def test_what_is_no_image_or_hidden_or_gone_never_comes(tmp_path: Path) -> None:
    (tmp_path / "gone.png").write_bytes(b"half of a picture")
    with Followed(tmp_path) as followed:
        assert followed.tried.get(timeout=LONG).name == "gone.png"
        (tmp_path / "gone.png").unlink()
        save(tmp_path / ".cache" / "0.png", noise(0))
        save(tmp_path / ".1.png", noise(1))
        save(tmp_path / "@eaDir" / "2.png", noise(2))
        (tmp_path / "notes.txt").write_text("none")
        put(tmp_path / "last.png", noise(4))
        assert followed.names(1) == ["last.png"]
    assert followed.came.empty()


def test_a_stop_ends_it_before_the_next_file(tmp_path: Path) -> None:
    for number in range(3):
        save(tmp_path / f"{number}.png", noise(number))
    stop = Event()
    found = []
    for arrival in Arrivals(tmp_path, read_image, settle=0, stop=stop):
        found.append(arrival.path.name)
        stop.set()
    assert found == ["0.png"]


def test_without_a_folder_or_watchfiles_there_is_a_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(MissingError, match="input: no folder .*nowhere to watch"):
        Arrivals(tmp_path / "nowhere", read_image)
    with pytest.raises(ValueError, match="^settle must be"):
        Arrivals(tmp_path, read_image, settle=-1)
    monkeypatch.setitem(sys.modules, "watchfiles", None)
    with pytest.raises(InputError, match=r"pip install 'occ-lab\[watch\]'"):
        Arrivals(tmp_path, read_image)


def refused(*paths: object, **arguments: object) -> Iterator[set[object]]:
    raise OSError("OS file watch limit reached")
    yield set()


def test_a_folder_that_cannot_be_watched_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("watchfiles.watch", refused)
    with pytest.raises(InputError, match="limit reached.*WATCHFILES_FORCE_POLLING=true"):
        list(Arrivals(tmp_path, read_image))
