"""The folder layout of MVTec AD, which MPDD, BTAD and others share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from occ_lab.data.base import Benchmark
from occ_lab.data.files import image_files, images_below, visible_folders
from occ_lab.data.items import Counts, Item, Split
from occ_lab.data.masks import Below, masks_of

NORMAL = ("good", "ok")  # the folder of normal images in MVTec AD and MPDD, and in BTAD


class MVTec(Benchmark):
    """Any benchmark in the layout of MVTec AD (Bergmann et al. 2019, 2021).

    Each category is a folder with ``train/good``, ``test/good``, ``test/<defect>`` and
    ``ground_truth/<defect>``; the mask of ``test/<defect>/000.png`` is
    ``ground_truth/<defect>/000_mask.png`` or ``ground_truth/<defect>/000.png``. The folder of
    normal images may be called ``ok`` instead of ``good``.
    """

    layout = "<category>/train/good, test/<defect>, ground_truth/<defect>/<image>_mask.png"
    source = "https://www.mvtec.com/company/research/datasets/mvtec-ad (after a form)"
    licence = "CC BY-NC-SA 4.0 (no commercial use)"
    size = "4.9 GB"
    task_count = "15"
    published: ClassVar[Mapping[str, Counts]] = {
        "bottle": Counts(209, 20, 63),
        "cable": Counts(224, 58, 92),
        "capsule": Counts(219, 23, 109),
        "carpet": Counts(280, 28, 89),
        "grid": Counts(264, 21, 57),
        "hazelnut": Counts(391, 40, 70),
        "leather": Counts(245, 32, 92),
        "metal_nut": Counts(220, 22, 93),
        "pill": Counts(267, 26, 141),
        "screw": Counts(320, 41, 119),
        "tile": Counts(230, 33, 84),
        "toothbrush": Counts(60, 12, 30),
        "transistor": Counts(213, 60, 40),
        "wood": Counts(247, 19, 60),
        "zipper": Counts(240, 32, 119),
    }

    def available(self) -> list[str]:
        """The folders under ``root`` that hold normal training images."""
        return [
            folder.name
            for folder in visible_folders(self.root)
            if any((folder / "train" / name).is_dir() for name in NORMAL)
        ]

    def published_split(self, task: str) -> Split:
        """The official split: ``train`` to train on, and every folder of ``test`` to test on.

        Raises:
            InputError: a mask belongs to no image.
        """
        folder = self.root / task
        train = [Item(path, 0) for name in NORMAL for path in image_files(folder / "train" / name)]
        kinds = visible_folders(folder / "test")
        anomalous = [
            path for kind in kinds if kind.name not in NORMAL for path in image_files(kind)
        ]
        marked = [
            path
            for kind in visible_folders(folder / "ground_truth")
            if kind.name not in NORMAL
            for path in images_below(kind)
        ]
        masks = masks_of(Below(folder / "test", anomalous), Below(folder / "ground_truth", marked))
        test = [
            Item(path, 0) if kind.name in NORMAL else Item(path, 1, masks.get(path))
            for kind in kinds
            for path in image_files(kind)
        ]
        return Split(train, test)
