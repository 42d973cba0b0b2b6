"""The notes of a run about its files, before it starts."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from occ_lab.data.datasets.folder import Folder
from occ_lab.data.notes import notes
from tests.data.trees import noise, save


def said(folder: Path, train_share: float = 0.8) -> list[str]:
    benchmark = Folder("parts", folder, train_share=train_share)
    return list(notes(benchmark, "parts", benchmark.split("parts"), None))


def test_images_without_variation_are_reported(tmp_path: Path) -> None:
    for number in range(5):
        save(tmp_path / f"{number}.png", np.full((16, 16, 3), number, np.uint8))
    assert said(tmp_path) == [
        "4 of the 4 training images checked have one colour in all pixels: "
        f"{Folder('parts', tmp_path).split('parts').train[0]}"
    ]


def test_a_single_training_image_is_reported(tmp_path: Path) -> None:
    for number in range(2):
        save(tmp_path / f"{number}.png", noise(number))
    assert said(tmp_path, 0.5) == [
        "there is one training image, which shows no variation: expect poor scores"
    ]
    save(tmp_path / "2.png", noise(2))
    assert said(tmp_path) == []
