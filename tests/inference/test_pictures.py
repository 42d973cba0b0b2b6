"""Names of pictures: one for each image."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from occ_lab.inference.pictures import picture_names

LONG = "x" * 251


@pytest.mark.parametrize(
    "given",
    [
        ["line1/cam/good/0.png", "line2/cam/good/0.png"],
        ["p/a.png", "p/a.jpg", "p/a.bmp", "p/a.jpg.png"],
        ["x/y/a_b/c.png", "x/y_a/b/c.png", "x/y/a/b_c.png"],
        ["p/A.png", "p/a.png", "P/a.png"],
        [f"p/{LONG}.png", f"q/{LONG}.png", f"p/{LONG}.jpg", f"p/{LONG[:-1]}y.png"],
        ["p/" + os.fsdecode(b"\xff\xfe.png"), "p/" + os.fsdecode(b"\xfe\xff.png")],
        ["p/a\nb.png", "p/a\\nb.png", "p/a b.png"],
        ["p/1~in_p_a.png", "p/a.png"],
        ["a", "b/.png"],
    ],
)
def test_each_image_has_a_name_of_its_own(tmp_path: Path, given: list[str]) -> None:
    paths = [tmp_path / "in" / each for each in given]
    names = picture_names(paths)
    assert set(names) == set(paths)
    assert len({name.casefold() for name in names.values()}) == len(paths)
    assert names == picture_names(paths)
    for name in names.values():
        (tmp_path / name).write_bytes(b"")
        assert name.isprintable()
        assert name.endswith(".png")


def test_names_are_short_where_they_can_be() -> None:
    assert list(picture_names([Path("/parts/good/0.jpg")]).values()) == ["parts_good_0.png"]
    assert list(picture_names([Path("/0.jpg")]).values()) == ["0.png"]
    assert picture_names([]) == {}


def test_a_name_that_several_asked_for_is_nobodys() -> None:
    paths = [Path("/p/in/c/a.png"), Path("/p/in/c/a.jpg"), Path("/q/in/c/a.jpg")]
    assert list(picture_names(paths).values()) == [
        "in_c_a.png.png",
        "p_in_c_a.jpg.png",
        "q_in_c_a.jpg.png",
    ]
