"""Eight industrial scenes under changing light, with hidden test sets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from occ_lab.data.datasets.mvtec import MVTec
from occ_lab.data.files import image_files
from occ_lab.data.items import Counts, Item, Split
from occ_lab.data.masks import Below, masks_of


class MVTecAD2(MVTec):
    """MVTec AD 2 (Heckler-Kram et al. 2025, arXiv 2503.21622): 8 categories, 2,528 training images.

    A category has ``train/good``, ``validation/good`` and ``test_public``, whose images are
    labelled: ``good`` and ``bad``, with a mask ``ground_truth/bad/<image>_mask.png`` for each of
    the latter. Only these are tested on. The images of ``test_private`` and ``test_private_mixed``
    have no labels; see `occ_lab.inference.submission` for the maps that MVTec's server evaluates.

    The images are used whole, because defects also lie at their borders.
    """

    layout = (
        "<category>/{train,validation}/good, test_public/{good,bad}, "
        "test_public/ground_truth/bad/<image>_mask.png, test_private, test_private_mixed"
    )
    source = "https://www.mvtec.com/company/research/datasets/mvtec-ad-2 (after a form)"
    licence = "CC BY-NC-SA 4.0 (no commercial use)"
    size = "33 GB"
    task_count = "8"
    archive_folder = "mvtec_ad_2"
    resize = 512
    crop = "whole"
    published: ClassVar[Mapping[str, Counts]] = {
        "can": Counts(412, 72, 90),
        "fabric": Counts(387, 66, 90),
        "fruit_jelly": Counts(263, 20, 60),
        "rice": Counts(313, 42, 90),
        "sheet_metal": Counts(137, 24, 90),
        "vial": Counts(291, 35, 105),
        "wallplugs": Counts(293, 60, 90),
        "walnuts": Counts(432, 60, 90),
    }

    def published_split(self, task: str) -> Split:
        """Training and validation images, and the public test images.

        Raises:
            InputError: a mask belongs to no image.
        """
        folder = self.root / task
        public = folder / "test_public"
        bad = Below(public, image_files(public / "bad"))
        marked = public / "ground_truth"
        masks = masks_of(bad, Below(marked, image_files(marked / "bad")))
        anomalous = [Item(path, 1, masks.get(path)) for path in bad.files]
        normal = [Item(path, 0) for path in image_files(public / "good")]
        return Split(
            train=[Item(path, 0) for path in image_files(folder / "train" / "good")],
            test=anomalous + normal,
            validation=[Item(path, 0) for path in image_files(folder / "validation" / "good")],
        )
