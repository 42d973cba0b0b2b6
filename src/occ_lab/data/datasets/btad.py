"""Three industrial products with body and surface defects."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from occ_lab.data.datasets.mvtec import MVTec
from occ_lab.data.items import Counts


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
    archive_folder = "BTech_Dataset_transformed"
    published: ClassVar[Mapping[str, Counts]] = {
        "01": Counts(400, 21, 49),
        "02": Counts(399, 30, 200),
        "03": Counts(1000, 400, 41),
    }
