"""Five scenes with logical and structural anomalies, and how far a defect must be covered."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from occ_lab.data.datasets.mvtec import MVTec
from occ_lab.data.files import image_files, visible_folders
from occ_lab.data.items import Counts, Item, Region, Split
from occ_lab.utils.errors import ImageError, InputError

CONFIG = "defects_config.json"  # in the folder of a category


@dataclass(frozen=True)
class Defect:
    """A kind of defect, as ``defects_config.json`` describes it.

    Attributes:
        name: such as ``1_additional_pushpin``.
        saturation: the area that is enough to find such a defect: a number of pixels, or if
            ``relative`` a fraction of the defect's own area.
        relative: see ``saturation``.

    Example:
        >>> missing, dent = Defect("missing_pushpin", 6300, False), Defect("dent", 0.5, True)
        >>> missing.enough(9000), missing.enough(400), dent.enough(80)
        (6300, 400, 40)
    """

    name: str
    saturation: float
    relative: bool

    def enough(self, area: int) -> int:
        """The number of pixels of a region of this kind that saturate its overlap, at least 1.

        Args:
            area: the number of pixels of the region.
        """
        return max(1, int(self.saturation * area if self.relative else min(self.saturation, area)))


class MVTecLOCO(MVTec):
    """MVTec LOCO AD (Bergmann et al. 2022, IJCV 130): 5 categories.

    A category has ``train/good``, ``validation/good`` and ``test/{good, logical_anomalies,
    structural_anomalies}``. The annotation of ``test/<kind>/000.png`` is the folder
    ``ground_truth/<kind>/000`` with a mask file for each region, ``000.png``, ``001.png``, …; the
    value of its pixels names the defect in ``defects_config.json``. As the mask of an image they
    are joined; `regions` keeps them apart for the saturated per-region overlap (sPRO).
    """

    layout = (
        "<category>/{train,validation}/good, test/{good,logical_anomalies,structural_anomalies}, "
        "ground_truth/<kind>/<image>/*.png, defects_config.json"
    )
    source = "https://www.mvtec.com/company/research/datasets/mvtec-loco (after a form)"
    licence = "CC BY-NC-SA 4.0 (no commercial use)"
    size = "~6 GB"
    task_count = "5"
    archive_folder = "mvtec_loco_anomaly_detection"
    saturates = True
    crop = 256
    published: ClassVar[Mapping[str, Counts]] = {
        "breakfast_box": Counts(351, 102, 83 + 90),
        "juice_bottle": Counts(335, 94, 142 + 94),
        "pushpins": Counts(372, 138, 91 + 81),
        "screw_bag": Counts(360, 122, 137 + 82),
        "splicing_connectors": Counts(360, 119, 108 + 85),
    }

    def published_split(self, task: str) -> Split:
        """The published split; the mask of an image is the folder of its regions.

        Raises:
            InputError: the masks in a folder belong to no image, or the file of the kinds of
                defects is missing.
        """
        folder = self.root / task
        self.defects(task)  # before any work, because the test needs it
        test, marked = [], set[Path]()
        for kind in visible_folders(folder / "test"):
            for path in image_files(kind):
                if kind.name == "good":
                    test.append(Item(path, 0))
                    continue
                mask = folder / "ground_truth" / kind.name / path.stem
                marked.add(mask)
                test.append(Item(path, 1, mask if mask.is_dir() else None))
        for kind in visible_folders(folder / "ground_truth"):
            for mask in visible_folders(kind):
                if mask not in marked:
                    raise InputError(
                        f"masks: {mask} belongs to no image; it is the folder of the masks of "
                        f"{folder / 'test' / kind.name / mask.name}.png",
                        part="dataset",
                    )
        return Split(
            train=[Item(path, 0) for path in image_files(folder / "train" / "good")],
            test=test,
            validation=[Item(path, 0) for path in image_files(folder / "validation" / "good")],
        )

    def defects(self, task: str) -> dict[int, Defect]:
        """The kinds of defects of a category, by the value of their pixels in the masks.

        Raises:
            InputError: ``defects_config.json`` is missing or not as published.
        """
        path = self.root / task / CONFIG
        try:
            return {
                int(each["pixel_value"]): Defect(
                    str(each["defect_name"]),
                    float(each["saturation_threshold"]),
                    bool(each["relative_saturation"]),
                )
                for each in json.loads(path.read_text(encoding="utf-8"))
            }
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(
                f"{path.absolute()} is missing or not as published ({type(error).__name__}: "
                f"{error}); it is part of the archive",
                part="dataset",
            ) from error

    def regions(self, item: Item) -> list[Region]:
        """The annotated regions of an image at the size of its file, one for each mask file.

        Raises:
            ImageError: a mask is unreadable, empty, or has several values or an unknown one.
        """
        from occ_lab.data.mask_reading import mask_files, stored_values

        if item.mask is None:
            return []
        found, defects = [], self.defects(item.mask.relative_to(self.root).parts[0])
        for path in mask_files(item.mask):
            values = stored_values(path)
            kinds = [int(value) for value in np.unique(values) if value]
            if len(kinds) != 1 or kinds[0] not in defects:
                raise ImageError(
                    f"{path}: holds the values {kinds}; expected is one of those in {CONFIG}: "
                    f"{sorted(defects)}"
                )
            mask = values != 0
            found.append(Region(mask, defects[kinds[0]].enough(int(mask.sum()))))
        return found
