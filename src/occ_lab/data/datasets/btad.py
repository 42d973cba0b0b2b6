"""Three industrial products with body and surface defects."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from occ_lab.data.datasets.mvtec import MVTec
from occ_lab.data.items import Counts

ARCHIVE_FOLDER = "BTech_Dataset_transformed"


class BTAD(MVTec):
    """BTAD (Mishra et al. 2021): products 01, 02 and 03.

    The layout is that of MVTec AD with the folders ``ok`` and ``ko``. Images and masks are BMP or
    PNG files, depending on the product. A mask has the name of its image.
    """

    layout = "{01,02,03}/train/ok, test/{ok,ko}, ground_truth/ko/<image>.{png,bmp}"
    source = "http://avires.dimi.uniud.it/papers/btad/btad.zip"
    licence = "CC BY-NC-SA 4.0 (no commercial use)"
    size = "2.3 GB"
    task_count = "3"
    published: ClassVar[Mapping[str, Counts]] = {
        "01": Counts(400, 21, 49),
        "02": Counts(399, 30, 200),
        "03": Counts(1000, 400, 41),
    }

    def __init__(
        self, name: str | None = None, root: str | Path | None = None, **common: Any
    ) -> None:
        super().__init__(name, root, **common)
        unpacked = self.root / ARCHIVE_FOLDER  # the folder in the archive
        if unpacked.is_dir():
            self.root = unpacked
