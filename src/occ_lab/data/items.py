"""The images of a task."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple


@dataclass(frozen=True)
class Item:
    """One image of a task.

    Attributes:
        path: the image file, or the file that holds many images.
        label: 0 normal, 1 anomalous.
        mask: the file of the pixel mask, in which non-zero pixels are anomalous; None if there is
            none. A normal image needs no file: its mask is all zero.
        index: the index of the image in a file that holds many, from 0; None if the file is a
            single image.
        tile: the top left corner of a tile of the image, in pixels; None for the whole image.

    Example:
        >>> str(Item(Path("digits.idx"), label=0, index=7))
        'digits.idx#7'
    """

    path: Path
    label: int
    mask: Path | None = None
    index: int | None = None
    tile: tuple[int, int] | None = None

    @property
    def key(self) -> tuple[Path, int | None]:
        """A key that is equal for items of the same image, whatever their labels are."""
        return self.path, self.index

    @property
    def kind(self) -> str:
        """The kind of an anomalous image, which is the name of its folder, such as ``scratch``.

        It is empty for a normal image, and for one of a file that holds many.
        """
        return self.path.parent.name if self.label and self.index is None else ""

    def __str__(self) -> str:
        return str(self.path) if self.index is None else f"{self.path}#{self.index}"


@dataclass(frozen=True)
class Split:
    """The images of one task: normal ones to train on, and normal and anomalous ones to test on.

    Attributes:
        train: normal images, and anomalous ones only if contamination is requested.
        test: normal and anomalous images.
        pool: images from which several tasks, or several parts of one task, take their training
            images; their features are extracted once for all of them. None if there is no such
            set.
    """

    train: list[Item]
    test: list[Item]
    pool: list[Item] | None = None

    @property
    def has_masks(self) -> bool:
        """Whether anomalous pixels of the test images are marked."""
        return any(item.mask is not None for item in self.test)


class Counts(NamedTuple):
    """The numbers of images of a task: ``train``, and ``normal`` and ``anomalous`` test images."""

    train: int
    normal: int
    anomalous: int
