"""Preprocessing of images, and keeping image and mask together."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from occ_lab.data.transforms import Preprocessing
from tests.data.trees import noise


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
    with pytest.raises(ValueError, match=r"^crop must be .*between 1 and resize=64, got 65"):
        Preprocessing(resize=64, crop=65)
    with pytest.raises(ValueError, match=r"^resize must be an integer and >= 1"):
        Preprocessing(resize=0, crop=0)


def test_resize_equals_pillow_lanczos() -> None:
    image = noise(3, 200)
    ours = Preprocessing(resize=64, crop=32)(image)
    whole = np.asarray(Image.fromarray(image).resize((64, 64), Image.Resampling.LANCZOS))
    assert np.array_equal(ours, whole[16:48, 16:48])
