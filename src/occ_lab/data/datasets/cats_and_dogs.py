"""Cats against dogs."""

from __future__ import annotations

import re
from pathlib import Path

from occ_lab.data.datasets.class_folder import ClassFolder
from occ_lab.data.datasets.classes import Classified, Part
from occ_lab.data.files import image_files

NAMED = re.compile(r"(cat|dog)\.(\d+)")
TRAINED = 10_000  # training images of each class, the first of 12,500


class CatsAndDogs(ClassFolder):
    """The Asirra images (Elson et al. 2007) as on Kaggle, or in folders by class.

    Only Kaggle's flat folder ``train/cat.0.jpg`` has labels. The first 10,000 images of each class
    by number are the training images and the other 2,500 the test images, as in PANDA (Reiss et al.
    2021), whose split later work uses.
    """

    layout = "train/{cat,dog}.<number>.jpg, or {train,test}/<class>/*.jpg"
    source = "https://www.kaggle.com/c/dogs-vs-cats (after a login)"
    licence = "for research; see the competition's rules"
    size = "0.8 GB"
    task_count = "2"
    home = "data/cats_and_dogs"
    resize = 256
    crop = 224

    def available(self) -> list[str]:
        """Both classes if Kaggle's images are present, or those that have a folder."""
        return sorted({name for name, _, _ in self._flat()}) or super().available()

    def class_sizes(self) -> dict[str, tuple[int, int]]:
        """The sizes in the split of PANDA."""
        return dict.fromkeys(("cat", "dog"), (TRAINED, 2_500))

    def classified(self, part: Part) -> list[Classified]:
        """The images by class, then by number, or by name if each class has its folder."""
        flat = self._flat()
        if not flat:
            return super().classified(part)
        return [
            (name, path, None)
            for name, number, path in flat
            if (number < TRAINED) == (part == "train")
        ]

    def _flat(self) -> list[tuple[str, int, Path]]:
        """Class, number and file of every image that is named as on Kaggle, in order."""
        found = ((NAMED.fullmatch(path.stem), path) for path in image_files(self.root / "train"))
        return sorted((match[1], int(match[2]), path) for match, path in found if match)
