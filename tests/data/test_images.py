"""Reading every kind of image, and keeping image and mask together."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from occ_lab.data.images import read_image, read_mask
from occ_lab.data.transforms import Preprocessing
from tests.data.trees import noise, save


def test_grey_is_repeated(tmp_path: Path) -> None:
    grey = noise(0)[..., 0]
    read = read_image(save(tmp_path / "grey.png", grey))
    assert np.array_equal(read, np.stack([grey] * 3, axis=-1))


def test_sixteen_bits_are_scaled_not_clipped(tmp_path: Path) -> None:
    deep = np.linspace(0, 65535, 64 * 64).reshape(64, 64).astype(np.uint16)
    for name in ("deep.png", "deep.tif"):
        read = read_image(save(tmp_path / name, deep))
        assert read.dtype == np.uint8
        assert np.abs(read[..., 0] - deep / 257.0).max() <= 0.5


def test_alpha_is_dropped(tmp_path: Path) -> None:
    colour = noise(0)
    alpha = np.full((64, 64, 1), 10, np.uint8)
    assert np.array_equal(
        read_image(save(tmp_path / "a.png", np.concatenate([colour, alpha], -1))), colour
    )


@pytest.mark.filterwarnings("error")
def test_palette_becomes_its_colours(tmp_path: Path) -> None:
    palette = Image.fromarray(noise(0)).quantize(16)
    palette.save(tmp_path / "p.png", transparency=3)
    assert np.array_equal(read_image(tmp_path / "p.png"), np.asarray(palette.convert("RGB")))


def test_float_pixels_are_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "f.tif", np.zeros((8, 8), np.float32))
    with pytest.raises(OSError, match="8 or 16 bits"):
        read_image(path)


def test_any_colour_but_black_is_defect(tmp_path: Path) -> None:
    mask = np.zeros((8, 8), np.uint8)
    mask[2:4, 3:5] = 1
    assert np.array_equal(read_mask(save(tmp_path / "one.png", mask)), mask > 0)
    assert np.array_equal(read_mask(save(tmp_path / "full.bmp", mask * 255)), mask > 0)
    Image.fromarray(mask * 255).convert("RGBA").save(tmp_path / "rgba.png")
    assert np.array_equal(read_mask(tmp_path / "rgba.png"), mask > 0)
    Image.fromarray(mask * 255).convert("1").save(tmp_path / "bit.png")
    assert np.array_equal(read_mask(tmp_path / "bit.png"), mask > 0)


def test_image_and_mask_stay_together() -> None:
    image = np.zeros((128, 128, 3), np.uint8)
    mask = np.zeros((128, 128), bool)
    image[40:80, 60:90], mask[40:80, 60:90] = 255, True
    preprocessing = Preprocessing(resize=96, crop=64)
    pixels, marked = preprocessing(image), preprocessing.of_mask(mask)
    assert pixels.shape == (64, 64, 3)
    assert (marked.shape, marked.dtype) == ((64, 64), bool)
    assert ((pixels[..., 0] > 127) == marked).mean() > 0.98
    assert 0 < marked.mean() < 1


def test_sizes_are_checked() -> None:
    with pytest.raises(ValueError, match=r"^crop must be between 1 and resize=64, got 65"):
        Preprocessing(resize=64, crop=65)
    with pytest.raises(ValueError, match=r"^resize must be at least 1"):
        Preprocessing(resize=0, crop=0)


def test_resize_equals_pillow_lanczos() -> None:
    image = noise(3, 200)
    ours = Preprocessing(resize=64, crop=32)(image)
    whole = np.asarray(Image.fromarray(image).resize((64, 64), Image.Resampling.LANCZOS))
    assert np.array_equal(ours, whole[16:48, 16:48])
