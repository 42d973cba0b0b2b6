"""A user's own images of one product."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path
from typing import Any

from occ_lab.data.absent import no_images
from occ_lab.data.base import Benchmark
from occ_lab.data.files import Found, files_below, identity, images_below
from occ_lab.data.items import Item, Split
from occ_lab.data.masks import Below, masks_of
from occ_lab.data.sampling import check_hold_out, hold_out
from occ_lab.utils.errors import InputError, MissingError


class Folder(Benchmark):
    """One task: a folder of normal images and, optionally, one of anomalous images and their masks.

    One folder may contain another. An image that is also in ``abnormal`` or ``masks`` does not
    count as normal, and files in ``masks`` do not count as images.

    A fraction of the normal images is held out to test on. Without anomalous images, the test
    images are scored, and metrics such as AUROC are skipped.

    Args:
        name: the name of the benchmark, and of its only task, in results.
        normal: the folder of normal images; images in its subfolders count as well.
        abnormal: the folder of anomalous images, or None.
        masks: the folder of their masks, or None; `occ_lab.data.masks.masks_of` says how they must
            be named.
        train_share: the fraction of the normal images to train on, above 0 and below 1.
        split_seed: the seed of the random split.
        common: the other arguments of `Benchmark`; ``root`` is the folder of normal images.

    Raises:
        InputError: ``normal`` is not given, ``abnormal`` or ``masks`` is not a folder, two of the
            folders are the same, or ``masks`` is given without ``abnormal``.
        ValueError: a value is out of range.
    """

    crop = "whole"
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
            raise InputError("masks: give abnormal too, the folder of their images", part="dataset")
        super().__init__(name, normal, **common)
        self.abnormal = None if abnormal is None else Path(abnormal)
        self.masks = None if masks is None else Path(masks)
        for key, folder in (("abnormal", self.abnormal), ("masks", self.masks)):
            if folder is not None and not folder.is_dir():
                raise MissingError(f"{key}: {no_images(folder)}", part="dataset")
        given = [("normal", self.root), ("abnormal", self.abnormal), ("masks", self.masks)]
        for (key, folder), (other, also) in combinations([each for each in given if each[1]], 2):
            if folder and also and identity(folder) and identity(folder) == identity(also):
                raise InputError(f"{other}: {also} is the same folder as {key}", part="dataset")
        self.train_share = train_share
        self.split_seed = split_seed

    def tasks(self) -> list[str]:
        """The name of the only task.

        Raises:
            InputError: there are no images in ``normal`` or ``abnormal``, or ``category`` is a
                different name.
        """
        for key, folder in (("normal", self.root), ("abnormal", self.abnormal)):
            if folder is None:
                continue
            found = self._below(folder) if folder.is_dir() else Found([], [])
            if not found.images:
                reason = no_images(folder, found.skipped)
                raise MissingError(f"{key}: {reason}", part="dataset")
        return super().tasks()

    def available(self) -> list[str]:
        """The only task if there are normal images; otherwise none."""
        return [self.name] if self._normal().images else []

    def published_split(self, task: str) -> Split:
        """Normal images split at random by ``split_seed``; all anomalous images are test images.

        Raises:
            InputError: there are no masks in ``masks``, or some belong to no image.
        """
        paths = self._normal().images
        train, held_out = hold_out(
            [Item(path, 0) for path in paths], self.train_share, self.split_seed
        )
        if self.abnormal is None:
            return Split(train, held_out)
        anomalous, masks = self._below(self.abnormal).images, {}
        if self.masks is not None:
            found = self._below(self.masks).images
            if not found:
                raise InputError(f"masks: no image files in {self.masks}", part="dataset")
            masks = masks_of(
                Below(self.abnormal, anomalous), Below(self.masks, found), Below(self.root, paths)
            )
        return Split(train, held_out + [Item(path, 1, masks.get(path)) for path in anomalous])

    def skipped(self, task: str) -> list[Path]:
        """The files in the folders that are not read as images."""
        own = [self._normal(), *map(self._below, self._others())]
        return [path for found in own for path in found.skipped]

    def notes(self, task: str) -> list[str]:
        """States how many files below ``normal`` do not count as normal images."""
        left_out = len(images_below(self.root)) - len(self._normal().images)
        if not left_out:
            return []
        return [f"{left_out} files below {self.root} are in abnormal or masks too, and not normal"]

    def _normal(self) -> Found:
        others = self._others()
        files = [path for folder in others for path in self._below(folder).images]
        return files_below(self.root, [*others, *files])

    def _below(self, folder: Path) -> Found:
        """The files in a folder, without those of the other folders inside it."""
        others = [each for each in (self.root, *self._others()) if each != folder]
        return files_below(folder, others)

    def _others(self) -> list[Path]:
        return [folder for folder in (self.abnormal, self.masks) if folder is not None]
