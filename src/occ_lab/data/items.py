"""The images of a task."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

# Folders between that of a kind of defect and its images, as magnetic tiles have them, and those
# of the single parts of Real-IAD.
BETWEEN = re.compile(r"imgs|images|s\d{4}", re.IGNORECASE)


@dataclass(frozen=True)
class Region:
    """One annotated region of an image; the overlap with it saturates.

    Attributes:
        mask: its pixels, bool ``[h, w]``.
        enough: the number of pixels at which the overlap counts as complete, at least 1.
    """

    mask: np.ndarray
    enough: int


@dataclass(frozen=True)
class Item:
    """One image of a task.

    Attributes:
        path: the image file, or the file that holds many images.
        label: 0 normal, 1 anomalous.
        mask: the file of the pixel mask, in which non-zero pixels are anomalous, or a folder of
            such files, which are joined; None if there is none. A normal image needs no file: its
            mask is all zero.
        index: the index of the image in a file that holds many, from 0; None if the file is a
            single image.
        tile: the top left corner of a tile of the image, in pixels; None for the whole image.
        turn: the angle in degrees by which the image is rotated after it is read.

    Example:
        >>> str(Item(Path("digits.idx"), label=0, index=7))
        'digits.idx#7'
    """

    path: Path
    label: int
    mask: Path | None = None
    index: int | None = None
    tile: tuple[int, int] | None = None
    turn: float = 0.0

    @property
    def key(self) -> tuple[Path, int | None]:
        """A key that is equal for items of the same image, whatever their labels are."""
        return self.path, self.index

    @property
    def kind(self) -> str:
        """The kind of an anomalous image, see `kind_of`; empty for a normal one."""
        return kind_of(str(self)) if self.label else ""

    def __str__(self) -> str:
        return str(self.path) if self.index is None else f"{self.path}#{self.index}"


def kind_of(path: str) -> str:
    """The kind of defect of an image, the name of its folder; empty in a file of many images.

    Example:
        >>> kind_of("data/bolt/test/scratch/001.png"), kind_of("digits.idx#7")
        ('scratch', '')
        >>> kind_of("MT_Crack/Imgs/001.jpg")  # a folder between kind and image
        'MT_Crack'
    """
    folders = re.split(r"[\\/]", path)
    if re.search(r"#\d+$", folders.pop()):
        return ""
    while folders and BETWEEN.fullmatch(folders[-1]):
        folders.pop()
    return folders[-1] if folders else ""


@dataclass(frozen=True)
class Split:
    """The images of one task: normal ones to train on, and normal and anomalous ones to test on.

    Attributes:
        train: normal images, and anomalous ones only if contamination is requested.
        test: normal and anomalous images.
        pool: images from which several tasks, or several parts of one task, take their training
            images; their features are extracted once for all of them. None if there is no such
            set.
        validation: normal images that the benchmark keeps apart from training and test. They give
            the threshold, unless training images are held out for it.
        parts: the training images of each task, if one model is trained on those of several tasks;
            otherwise None.
    """

    train: list[Item]
    test: list[Item]
    pool: list[Item] | None = None
    validation: list[Item] = field(default_factory=list)
    parts: Mapping[str, list[Item]] | None = None

    @property
    def has_masks(self) -> bool:
        """Whether anomalous pixels of the test images are marked."""
        return any(item.mask is not None for item in self.test)


class Counts(NamedTuple):
    """The numbers of images of a task: ``train``, and ``normal`` and ``anomalous`` test images."""

    train: int
    normal: int
    anomalous: int
