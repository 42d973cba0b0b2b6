"""Every file that cannot be used is named, all in one message, before any work."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from occ_lab.data.datasets.mvtec import MVTec
from occ_lab.data.items import Split
from occ_lab.data.validation import check_split, image_size
from occ_lab.utils.errors import InputError
from tests.data.trees import mvtec_tree, noise, save


def split_of(root: Path) -> Split:
    return MVTec("mvtec", root).split("bolt")


def test_sound_data_passes(tmp_path: Path) -> None:
    mvtec_tree(tmp_path)
    check_split("bolt", split_of(tmp_path))


def test_every_offending_file_is_listed(tmp_path: Path) -> None:
    folder = mvtec_tree(tmp_path, train=6, bad=4)
    truncated = folder / "train" / "good" / "000.png"
    truncated.write_bytes(truncated.read_bytes()[:-200])
    no_image = folder / "train" / "good" / "001.png"
    no_image.write_text("this is no image")
    flipped = folder / "train" / "good" / "002.png"
    data = bytearray(flipped.read_bytes())
    data[len(data) // 2] ^= 0xFF
    flipped.write_bytes(data)
    half_jpeg = folder / "train" / "good" / "half.jpg"
    Image.fromarray(noise(0, 128)).save(half_jpeg)
    half_jpeg.write_bytes(half_jpeg.read_bytes()[:1500])
    empty = folder / "train" / "good" / "empty.bmp"
    empty.touch()
    small_mask = folder / "ground_truth" / "dent" / "000_mask.png"
    save(small_mask, np.zeros((32, 48), np.uint8))
    (folder / "ground_truth" / "dent" / "001_mask.png").unlink()
    with pytest.raises(InputError) as caught:
        check_split("bolt", split_of(tmp_path))
    text = str(caught.value)
    assert text.startswith("bolt: 7 file(s) cannot be used")
    for path in (truncated, no_image, flipped, half_jpeg, empty):
        assert f"{path}: unreadable" in text
    assert f"{small_mask}: mask is 48×32, image is 64×64" in text
    assert f"{folder / 'test' / 'dent' / '001.png'}: anomalous, but has no mask" in text


def test_long_lists_are_cut_with_a_count(tmp_path: Path) -> None:
    folder = mvtec_tree(tmp_path, train=30)
    for path in (folder / "train" / "good").iterdir():
        path.write_bytes(b"")
    with pytest.raises(InputError, match="30 file.*") as caught:
        check_split("bolt", split_of(tmp_path))
    assert "… and 10 more" in str(caught.value)


def test_no_masks_at_all_is_fine(tmp_path: Path) -> None:
    folder = mvtec_tree(tmp_path)
    for path in (folder / "ground_truth" / "dent").iterdir():
        path.unlink()
    split = split_of(tmp_path)
    assert not split.has_masks
    check_split("bolt", split)


@pytest.mark.parametrize(("part", "counts"), [("train", {"train": 0}), ("test", {})])
def test_empty_split_is_named(tmp_path: Path, part: str, counts: dict) -> None:
    mvtec_tree(tmp_path, **counts)
    split = split_of(tmp_path)
    empty = Split([], split.test) if part == "train" else Split(split.train, [])
    with pytest.raises(InputError, match=f"bolt: there is no image to {part} on"):
        check_split("bolt", empty)


def test_sound_files_of_every_format_pass(tmp_path: Path) -> None:
    for suffix in ("png", "jpg", "bmp", "tif", "webp"):
        assert image_size(save(tmp_path / f"image.{suffix}", noise(0, 40))) == (40, 40)


def test_jpeg_with_bytes_after_its_end_passes(tmp_path: Path) -> None:
    path = save(tmp_path / "image.jpg", noise(0))
    path.write_bytes(path.read_bytes() + b"appended by a camera")
    assert image_size(path) == (64, 64)
