"""Metal parts with defects."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from occ_lab.data.datasets.mvtec import MVTec
from occ_lab.data.items import Counts


class MPDD(MVTec):
    """MPDD (Jezek et al. 2021): six metal parts, painted or not, in the layout of MVTec AD."""

    source = "https://github.com/stepanje/MPDD (a link to the archive)"
    licence = "CC BY-NC-SA 4.0 (no commercial use)"
    size = "1.7 GB"
    task_count = "6"
    published: ClassVar[Mapping[str, Counts]] = {
        "bracket_black": Counts(289, 32, 47),
        "bracket_brown": Counts(185, 26, 51),
        "bracket_white": Counts(110, 30, 30),
        "connector": Counts(128, 30, 14),
        "metal_plate": Counts(54, 26, 71),
        "tubes": Counts(122, 32, 69),
    }
