"""Pictures of images whose names are long, equal, or not valid text."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import torch

from occ_lab.reporting.pictures import save_pictures


def test_every_image_has_a_picture_whatever_it_is_called(tmp_path: Path) -> None:
    names = [
        "a/good/0.png",
        "b/good/0.png",  # equal last folders
        "b/good/0.jpg",  # equal stems
        "c/" + "x" * 251 + ".png",
        "c/" + "ü" * 125 + ".png",
        "d/two\nlines\t.png",
        "d/=1+1 [2].png",
        os.fsdecode(b"d/caf\xe9.png"),
    ]
    paths = save_pictures(
        tmp_path / "maps",
        lambda index: {"image": torch.zeros(3, 16, 16), "path": names[index]},
        lambda index: np.full((16, 16), index, np.float32),
        np.arange(len(names), dtype=float),
        np.array([0, 1] * 4),
        count=len(names),
    )
    assert len(set(paths)) == len(names)
    assert set(paths) == set((tmp_path / "maps").iterdir())
    for path in paths:
        path.name.encode()  # text, which can be printed and put into a table
