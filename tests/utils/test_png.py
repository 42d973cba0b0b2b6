"""PNG files of our own against Pillow."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from occ_lab.utils.png import save_png


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (37, 5), (64, 48)])
@pytest.mark.parametrize("channels", [(), (3,)])
def test_a_picture_is_read_as_it_was_written(
    tmp_path: Path, shape: tuple[int, int], channels: tuple[int, ...]
) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, shape + channels, np.uint8)
    save_png(Image.fromarray(pixels), tmp_path / "picture.png")
    with Image.open(tmp_path / "picture.png") as picture:
        picture.verify()
    with Image.open(tmp_path / "picture.png") as picture:
        np.testing.assert_array_equal(np.asarray(picture), pixels)


def test_other_modes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="mode RGB or L is needed, got RGBA"):
        save_png(Image.new("RGBA", (2, 2)), tmp_path / "picture.png")
