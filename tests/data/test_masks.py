"""Which mask belongs to which image, and which names are an error."""

from __future__ import annotations

from pathlib import Path

import pytest

from occ_lab.data.masks import Below, masks_of
from occ_lab.utils.errors import InputError

BAD, MASKS, GOOD = Path("bad"), Path("masks"), Path("good")


def found(images: list[str], masks: list[str], normal: tuple[str, ...] = ()) -> dict[str, str]:
    pairs = masks_of(
        Below(BAD, [BAD / name for name in images]),
        Below(MASKS, [MASKS / name for name in masks]),
        Below(GOOD, [GOOD / name for name in normal]),
    )
    return {
        str(image.relative_to(BAD)): str(mask.relative_to(MASKS)) for image, mask in pairs.items()
    }


def test_names_with_and_without_mask() -> None:
    assert found(["1.jpg", "a/2.png", "3.tif"], ["1.png", "a/2_mask.bmp"]) == {
        "1.jpg": "1.png",
        "a/2.png": "a/2_mask.bmp",
    }


def test_equal_stems_keep_their_own_masks() -> None:
    assert found(["1.jpg", "1.png"], ["1.jpg_mask.png", "1.png_mask.png"]) == {
        "1.jpg": "1.jpg_mask.png",
        "1.png": "1.png_mask.png",
    }
    assert found(["1.jpg", "1.png"], ["1.png"]) == {"1.png": "1.png"}
    assert found(["1.jpg", "1.png"], ["1_mask.png", "1_mask.jpg"]) == {
        "1.jpg": "1_mask.jpg",
        "1.png": "1_mask.png",
    }
    assert found(["1.png", "1_mask.png"], ["1_mask.png", "1.tif"]) == {
        "1.png": "1.tif",
        "1_mask.png": "1_mask.png",
    }


@pytest.mark.parametrize(
    ("images", "masks"), [(["1.jpg", "1.png"], ["1.tif"]), (["1.png"], ["1.tif", "1_mask.tif"])]
)
def test_what_fits_twice_is_an_error(images: list[str], masks: list[str]) -> None:
    with pytest.raises(InputError, match=r"^masks: .*1.* fits both"):
        found(images, masks)


@pytest.mark.parametrize("suffix", ["_gt", "_label", "-mask", "_mask_1", "_MASK"])
def test_masks_of_no_image_are_named_beside_an_image(suffix: str) -> None:
    with pytest.raises(
        InputError, match=rf"2 of 2 belong to no image: masks/0{suffix}.png .*bad/0"
    ):
        found(["0.png", "1.png"], [f"0{suffix}.png", f"1{suffix}.png"])


def test_a_folder_off_is_an_error_and_so_is_a_mask_too_many() -> None:
    with pytest.raises(InputError, match="masks/hole/0_mask.png does not, and bad/0.png has no"):
        found(["0.png"], ["hole/0_mask.png"])
    with pytest.raises(InputError, match="masks/1.png does not"):
        found(["0.png"], ["0.png", "1.png"])


def test_masks_of_normal_images_do_not_matter() -> None:
    assert found(["0.png"], ["0.png", "7_mask.png"], normal=("7.png",)) == {"0.png": "0.png"}
