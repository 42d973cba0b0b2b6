"""The folder layout of MVTec AD, which MPDD, BTAD and others share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from occ_lab.data.base import Benchmark, image_files
from occ_lab.data.items import Counts, Item, Split

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
        found = (path for name in NORMAL for path in self.root.glob(f"*/train/{name}"))
        return sorted({path.parent.parent.name for path in found})

    def published_split(self, task: str) -> Split:
        """The official split: ``train`` to train on, and every folder of ``test`` to test on."""
        folder = self.root / task
        train = [Item(path, 0) for name in NORMAL for path in image_files(folder / "train" / name)]
        test: list[Item] = []
        for kind in sorted(path for path in (folder / "test").glob("*") if path.is_dir()):
            if kind.name in NORMAL:
                test += [Item(path, 0) for path in image_files(kind)]
                continue
            masks = {
                path.stem.removesuffix("_mask"): path
                for path in image_files(folder / "ground_truth" / kind.name)
            }
            test += [Item(path, 1, masks.get(path.stem)) for path in image_files(kind)]
        return Split(train, test)
