"""Which pixels of a mask are anomalous, for every way to store it."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image

from occ_lab.data.mask_reading import read_mask
from tests.data.trees import save

TRUTH = np.zeros((32, 32), bool)
TRUTH[8:16, 8:24] = True
FULL = np.full((32, 32), 255, np.uint8)


def test_any_colour_but_black_is_defect(tmp_path: Path) -> None:
    mask = np.zeros((8, 8), np.uint8)
    mask[2:4, 3:5] = 1
    assert np.array_equal(read_mask(save(tmp_path / "one.png", mask)), mask > 0)
    assert np.array_equal(read_mask(save(tmp_path / "full.bmp", mask * 255)), mask > 0)
    Image.fromarray(mask * 255).convert("RGBA").save(tmp_path / "rgba.png")
    assert np.array_equal(read_mask(tmp_path / "rgba.png"), mask > 0)
    Image.fromarray(mask * 255).convert("1").save(tmp_path / "bit.png")
    assert np.array_equal(read_mask(tmp_path / "bit.png"), mask > 0)


@pytest.mark.parametrize("value", [1, 5, 128, 255, 65535])
def test_any_stored_value_but_zero_is_defect(tmp_path: Path, value: int) -> None:
    for kind in ("uint16", "int32", "uint32", "float32", "float64"):
        path = tmp_path / f"{kind}.tif"
        tifffile.imwrite(path, (TRUTH * value).astype(kind))
        assert np.array_equal(read_mask(path), TRUTH), kind
    deep = save(tmp_path / "deep.png", (TRUTH * value).astype(np.uint16))
    assert np.array_equal(read_mask(deep), TRUTH)
    colours = np.zeros((32, 32, 3), np.uint16)
    colours[..., 1] = TRUTH * value
    for suffix in ("png", "tif"):
        assert cv2.imwrite(str(tmp_path / f"colours.{suffix}"), colours)
        assert np.array_equal(read_mask(tmp_path / f"colours.{suffix}"), TRUTH)


def test_a_palette_counts_by_its_index_or_is_black_on_white(tmp_path: Path) -> None:
    def saved(index: np.ndarray, colours: list[int]) -> Path:
        image = Image.fromarray(index.astype(np.uint8))
        image.putpalette(colours)
        image.save(tmp_path / "palette.png")
        return tmp_path / "palette.png"

    assert np.array_equal(read_mask(saved(TRUTH * 2, [0, 0, 0, 9, 9, 9, 0, 0, 0])), TRUTH)
    assert np.array_equal(read_mask(saved(TRUTH * 1, [50, 60, 70, 200, 0, 0])), TRUTH)
    assert np.array_equal(read_mask(saved(~TRUTH * 1, [255, 255, 255, 0, 0, 0])), TRUTH)


def test_alpha_is_the_mask_only_if_colours_say_nothing(tmp_path: Path) -> None:
    alpha, none = (TRUTH * 255).astype(np.uint8), FULL * 0
    shades = np.where(TRUTH, 7, 0).astype(np.uint8)
    for name, channels in {
        "white": [FULL, FULL, FULL, alpha],
        "red": [FULL, none, none, alpha],
        "black": [none, none, none, alpha],
        "grey": [FULL, alpha],
        "red on clear white": [FULL, ~alpha, ~alpha, alpha],
        "colours": [shades, none, none, np.arange(1024).reshape(32, 32).astype(np.uint8)],
        "colours, all clear": [shades, none, none, none],
    }.items():
        path = save(tmp_path / f"{name}.png", np.dstack(channels))
        assert np.array_equal(read_mask(path), TRUTH), name
    assert read_mask(save(tmp_path / "f.png", np.dstack([FULL] * 4))).all()
    assert not read_mask(save(tmp_path / "n.png", np.dstack([none, none, none, FULL]))).any()


def test_masks_in_lossy_files_do_not_grow(tmp_path: Path) -> None:
    truth = np.zeros((96, 96), bool)
    truth[21:50, 37:71] = True
    mask = Image.fromarray(truth.astype(np.uint8) * 255)
    for name, options in {
        "mask.jpg": {"quality": 60},
        "colour.jpg": {"quality": 75},
        "lossy.webp": {"quality": 50},
        "mask.tif": {"compression": "jpeg", "quality": 60},
    }.items():
        image = Image.merge("RGB", [mask, mask, mask]) if "colour" in name else mask
        image.save(tmp_path / name, **options)
        assert (read_mask(tmp_path / name) != truth).sum() <= 6, name
    Image.fromarray(truth.astype(np.uint8)).save(tmp_path / "exact.webp", lossless=True)
    assert np.array_equal(read_mask(tmp_path / "exact.webp"), truth)
    assert not read_mask(save(tmp_path / "none.jpg", np.zeros((32, 32), np.uint8))).any()
