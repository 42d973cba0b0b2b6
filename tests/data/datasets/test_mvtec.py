"""The MVTec AD layout and those that share it."""

from __future__ import annotations

from pathlib import Path

import pytest

from occ_lab.data.datasets.mvtec import MVTec
from occ_lab.data.files import image_files
from occ_lab.utils.errors import InputError
from tests.data.trees import mvtec_tree, noise, save


def test_real_transistor_has_the_published_counts(shared_data: Path) -> None:
    benchmark = MVTec("mvtec", shared_data / "mvtec_256")
    assert benchmark.tasks() == ["transistor"]
    split = benchmark.split("transistor")
    assert len(split.train) == 213
    assert [item.label for item in split.test].count(0) == 60
    assert [item.label for item in split.test].count(1) == 40
    assert sum(item.mask is not None for item in split.test) == 40
    for item in split.test:
        if item.mask is not None:
            assert item.mask.parent.name == item.path.parent.name
            assert item.mask.stem == f"{item.path.stem}_mask"


def test_btad_names_and_mask_names_are_read(tmp_path: Path) -> None:
    for part, count in (("train/ok", 3), ("test/ok", 2), ("test/ko", 2), ("ground_truth/ko", 2)):
        for place in range(count):
            save(tmp_path / "01" / part / f"{place:04d}.bmp", noise(place))
    benchmark = MVTec("btad", tmp_path)
    assert benchmark.tasks() == ["01"]
    split = benchmark.split("01")
    assert [item.label for item in split.train] == [0, 0, 0]
    assert [(item.label, item.mask is not None) for item in split.test] == [
        (1, True),
        (1, True),
        (0, False),
        (0, False),
    ]


def test_paths_with_spaces_and_other_letters(tmp_path: Path) -> None:
    mvtec_tree(tmp_path / "Prüf teile 検査", category="Schraube ß")
    benchmark = MVTec("mvtec", tmp_path / "Prüf teile 検査")
    assert benchmark.tasks() == ["Schraube ß"]
    assert benchmark.split("Schraube ß").has_masks


def test_other_files_in_a_folder_of_images_are_passed_over(tmp_path: Path) -> None:
    folder = mvtec_tree(tmp_path) / "train" / "good"
    (folder / "Thumbs.db").write_bytes(b"x")
    (folder / "notes.txt").write_text("x")
    (folder / "._000.png").write_bytes(b"x")
    assert len(image_files(folder)) == 6


def test_absent_data_says_what_where_how_and_licence(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        MVTec("mvtec", tmp_path / "nothing").tasks()
    text = str(caught.value)
    assert str(tmp_path / "nothing") in text
    for part in (MVTec.layout, MVTec.source, MVTec.licence, "set root to"):
        assert part in text
    assert len(text.splitlines()) <= 6


def test_category_selects_and_refuses(tmp_path: Path) -> None:
    mvtec_tree(tmp_path, "bolt")
    mvtec_tree(tmp_path, "nut")
    assert MVTec("mvtec", tmp_path).tasks() == ["bolt", "nut"]
    assert MVTec("mvtec", tmp_path, category="nut").tasks() == ["nut"]
    assert MVTec("mvtec", tmp_path, category=["nut", "bolt", "nut"]).tasks() == ["nut", "bolt"]
    with pytest.raises(InputError, match=r"^category: no cap in .*found: bolt, nut"):
        MVTec("mvtec", tmp_path, category=["bolt", "cap"]).tasks()


@pytest.mark.parametrize("category", ["", [], ["bolt", ""]])
def test_empty_category_is_refused(tmp_path: Path, category: object) -> None:
    with pytest.raises(ValueError, match="^category is empty"):
        MVTec("mvtec", tmp_path, category=category)


@pytest.mark.parametrize(
    ("argument", "values"),
    [
        ("kind", {"kind": "other"}),
        ("resize", {"resize": 0}),
        ("crop", {"resize": 64, "crop": 65}),
    ],
)
def test_geometry_out_of_range_names_the_argument(
    tmp_path: Path, argument: str, values: dict
) -> None:
    with pytest.raises(ValueError, match=f"^{argument} must be"):
        MVTec("mvtec", tmp_path, **values)
