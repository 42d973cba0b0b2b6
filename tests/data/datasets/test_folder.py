"""A user's own folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from occ_lab.data.datasets.folder import Folder
from occ_lab.data.items import Split
from occ_lab.utils.errors import InputError
from tests.data.trees import noise, save


@pytest.fixture
def images(tmp_path: Path) -> Path:
    for place in range(10):
        below = "line 1" if place % 2 else "."
        save(tmp_path / "good parts" / below / f"{place}.png", noise(place))
    for kind in ("dent", "scratch"):
        save(tmp_path / "bad" / kind / "0.png", noise(20))
        mask = np.full((64, 64), 255, np.uint8)
        save(tmp_path / "masks" / kind / ("0_mask.png" if kind == "dent" else "0.png"), mask)
    return tmp_path


def test_normal_images_alone(images: Path) -> None:
    benchmark = Folder("parts", images / "good parts")
    assert benchmark.tasks() == ["parts"]
    split = benchmark.split("parts")
    assert (len(split.train), len(split.test)) == (8, 2)
    assert not set(split.train) & set(split.test)
    assert {item.label for item in split.test} == {0}
    assert not split.has_masks


def test_abnormal_images_and_masks(images: Path) -> None:
    split = Folder("p", images / "good parts", images / "bad", images / "masks").split("p")
    abnormal = [item for item in split.test if item.label]
    assert [item.path.parent.name for item in abnormal] == ["dent", "scratch"]
    assert [item.mask.name for item in abnormal if item.mask] == ["0_mask.png", "0.png"]
    without = Folder("p", images / "good parts", images / "bad").split("p")
    assert [item.mask for item in without.test if item.label] == [None, None]


def test_bad_arguments_are_told(images: Path) -> None:
    with pytest.raises(InputError, match=r"^normal: name a folder"):
        Folder("p")
    with pytest.raises(InputError, match=r"^abnormal: no images in .*nowhere; it does not exist"):
        Folder("p", images / "good parts", images / "nowhere")
    with pytest.raises(InputError, match=r"^masks: give abnormal too"):
        Folder("p", images / "good parts", masks=images / "masks")
    with pytest.raises(ValueError, match=r"^train_share must be"):
        Folder("p", images, train_share=1)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("nowhere", "nowhere; it does not exist"),
        ("empty", "empty; image files end in .png"),
        ("films", "1 file is not an image and is skipped: .*1.mp4"),
        ("bad/dent/0.png", "0.png; it is one image: name its folder, .*dent$"),
        ("films/1.mp4", "1.mp4; it is not a folder"),
    ],
)
def test_a_path_without_images_is_named_by_its_key(images: Path, name: str, said: str) -> None:
    for folder, file in (("films", "1.mp4"), ("empty", ".hidden")):
        (images / folder).mkdir()
        (images / folder / file).touch()
    with pytest.raises(InputError, match=f"^normal: no images in .*{said}"):
        Folder("p", images / name).tasks()
    with pytest.raises(InputError, match=f"^abnormal: no images in .*{said}"):
        Folder("p", images / "good parts", images / name).tasks()


def paths(split: Split, label: int) -> set[Path]:
    return {item.path for item in (*split.train, *split.test) if item.label == label}


def test_folders_inside_one_another_keep_apart(images: Path) -> None:
    for place in range(2):
        save(images / "good parts" / "bad" / f"{place}.png", noise(30 + place))
        save(images / "good parts" / "bad" / "masks" / f"{place}_mask.png", noise(40 + place))
    (images / "good parts" / "bad.png").symlink_to(images / "good parts" / "bad" / "0.png")
    normal, bad = images / "good parts", images / "good parts" / "bad"
    nested = Folder("p", normal, bad, bad / "masks")
    split = nested.split("p")
    assert len(paths(split, 0)) == 10
    assert paths(split, 1) == {bad / "0.png", bad / "1.png"}
    assert split.has_masks
    (note,) = nested.notes("p")
    assert note.startswith(f"4 files below {normal} are in abnormal or masks too")
    # The other way round: normal images inside the folder of all others.
    split = Folder("p", normal / "line 1", normal).split("p")
    assert len(paths(split, 0)) == 5
    assert not paths(split, 0) & paths(split, 1)


def test_a_folder_named_twice_is_told(images: Path) -> None:
    good, bad = images / "good parts", images / "bad"
    with pytest.raises(InputError, match=r"^abnormal: .* is the same folder as normal"):
        Folder("p", good, good)
    with pytest.raises(InputError, match=r"^masks: .* is the same folder as abnormal"):
        Folder("p", good, bad, bad)
    (images / "link").symlink_to(bad)
    with pytest.raises(InputError, match=r"^masks: .*link is the same folder as abnormal"):
        Folder("p", good, bad, images / "link")


def test_masks_that_match_no_image_are_told(images: Path) -> None:
    empty = images / "empty"
    empty.mkdir()
    with pytest.raises(InputError, match=r"^masks: no image files in .*empty"):
        Folder("p", images / "good parts", images / "bad", empty).split("p")
    wrong = save(images / "wrong" / "0_gt.png", noise(1))
    with pytest.raises(InputError, match=rf"{wrong} does not, and {images / 'bad'}.*0.png has no"):
        Folder("p", images / "good parts", images / "bad", images / "wrong").split("p")


def test_files_that_are_not_images_are_counted(images: Path) -> None:
    (images / "good parts" / "notes.txt").touch()
    (images / "bad" / "film.mp4").touch()
    benchmark = Folder("p", images / "good parts", images / "bad")
    assert [path.name for path in benchmark.skipped("p")] == ["notes.txt", "film.mp4"]
