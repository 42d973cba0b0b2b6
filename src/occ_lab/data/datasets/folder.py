"""A user's own images of one product."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from occ_lab.data.base import Benchmark, image_files
from occ_lab.data.items import Item, Split
from occ_lab.data.sampling import check_hold_out, hold_out
from occ_lab.utils.errors import InputError, MissingError


class Folder(Benchmark):
    """One task: a folder of normal images, and maybe one of abnormal ones and one of masks.

    A share of the normal images is held out to test on. Without abnormal images all is scored and
    nothing is told of how well defects are found.

    Args:
        name: what the benchmark, and its one task, is called in results.
        normal: the folder of normal images; those in folders below count as well.
        abnormal: the folder of images to be found, or None.
        masks: the folder of their masks, each with the name of its image, with or without
            ``_mask``, below the same folders; or None.
        train_share: share of the normal images to train on, above 0 and below 1.
        split_seed: seed of the random split.
        common: the other arguments of every benchmark; ``root`` is the normal folder.

    Raises:
        InputError: ``abnormal`` or ``masks`` is no folder, or ``masks`` comes alone.
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
        """The one task, where there are normal images."""
        return [self.name] if images_below(self.root) else []

    def published_split(self, task: str) -> Split:
        """Normal images at random by ``split_seed``, all abnormal ones to the test set."""
        normal = [Item(path, 0) for path in images_below(self.root)]
        train, held_out = hold_out(normal, self.train_share, self.split_seed)
        if self.abnormal is None:
            return Split(train, held_out)
        masks = masks_below(self.masks) if self.masks else {}
        abnormal = [
            Item(path, 1, masks.get((path.parent.relative_to(self.abnormal), path.stem)))
            for path in images_below(self.abnormal)
        ]
        return Split(train, held_out + abnormal)


def masks_below(folder: Path) -> dict[tuple[Path, str], Path]:
    """The mask files in ``folder`` and below, by folder and by the name of the image."""
    return {
        (path.parent.relative_to(folder), path.stem.removesuffix("_mask")): path
        for path in images_below(folder)
    }


def images_below(folder: Path) -> list[Path]:
    """The image files in ``folder`` and in the folders below, sorted; hidden ones left out."""
    below = sorted(path for path in folder.rglob("*") if path.is_dir())
    return [path for place in (folder, *below) for path in image_files(place)]
