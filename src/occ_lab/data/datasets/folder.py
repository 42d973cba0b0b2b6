"""A user's own images of one product."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from occ_lab.data.base import Benchmark, image_files
from occ_lab.data.items import Item, Split
from occ_lab.data.sampling import check_hold_out, hold_out
from occ_lab.utils.errors import InputError, MissingError


class Folder(Benchmark):
    """One task: a folder of normal images and, optionally, one of anomalous images and their masks.

    A fraction of the normal images is held out to test on. Without anomalous images the test
    images are scored, and metrics such as AUROC are skipped.

    Args:
        name: what the benchmark, and its one task, is called in results.
        normal: the folder of normal images; images in its subfolders count as well.
        abnormal: the folder of anomalous images, or None.
        masks: the folder of their masks, or None. A mask has the name of its image, with or without
            ``_mask``, and lies in the same subfolder.
        train_share: fraction of the normal images to train on, above 0 and below 1.
        split_seed: seed of the random split.
        common: the other arguments of `Benchmark`; ``root`` is the folder of normal images.

    Raises:
        InputError: ``normal`` is not given, ``abnormal`` or ``masks`` is not a folder, or ``masks``
            is given without ``abnormal``.
        ValueError: a value is out of range.
    """

    layout = "images in the folder normal; anomalous ones in abnormal, their masks in masks"
    source = "your own images"
    licence = "yours"
    size = "any"
    task_count = "1"

    def __init__(
        self,
        name: str | None = None,
        normal: str | Path | None = None,
        abnormal: str | Path | None = None,
        masks: str | Path | None = None,
        train_share: float = 0.8,
        split_seed: int = 0,
        **common: Any,
    ) -> None:
        check_hold_out(train_share, split_seed)
        if normal is None:
            raise InputError("normal: name a folder of normal images", part="dataset")
        if masks is not None and abnormal is None:
            raise InputError("masks: there are no images to mask without abnormal", part="dataset")
        super().__init__(name, normal, **common)
        self.abnormal = None if abnormal is None else Path(abnormal)
        self.masks = None if masks is None else Path(masks)
        for key, folder in (("abnormal", self.abnormal), ("masks", self.masks)):
            if folder is not None and not folder.is_dir():
                raise MissingError(f"{key}: no folder {folder.absolute()}", part="dataset")
        self.train_share = train_share
        self.split_seed = split_seed

    def available(self) -> list[str]:
        """The one task if there are normal images, else none."""
        return [self.name] if images_below(self.root) else []

    def published_split(self, task: str) -> Split:
        """Normal images split at random by ``split_seed``; all anomalous ones are test images."""
        normal = [Item(path, 0) for path in images_below(self.root)]
        train, held_out = hold_out(normal, self.train_share, self.split_seed)
        if self.abnormal is None:
            return Split(train, held_out)
        masks = masks_below(self.masks) if self.masks else {}
        anomalous = [
            Item(path, 1, masks.get((path.parent.relative_to(self.abnormal), path.stem)))
            for path in images_below(self.abnormal)
        ]
        return Split(train, held_out + anomalous)


def masks_below(folder: Path) -> dict[tuple[Path, str], Path]:
    """The mask files in ``folder`` and its subfolders, by subfolder and name of the image."""
    return {
        (path.parent.relative_to(folder), path.stem.removesuffix("_mask")): path
        for path in images_below(folder)
    }


def images_below(folder: Path) -> list[Path]:
    """The image files in ``folder`` and its subfolders, sorted, without hidden ones."""
    below = sorted(path for path in folder.rglob("*") if path.is_dir())
    return [path for each in (folder, *below) for path in image_files(each)]
