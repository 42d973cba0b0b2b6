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
        mask: the file of the defect's pixel mask (non-zero is defect); None where the image has
            none. A normal image needs none: its mask is all zero.
        place: which image of a file that holds many; None where the file is the image.
    """

    path: Path
    label: int
    mask: Path | None = None
    place: int | None = None

    @property
    def key(self) -> tuple[Path, int | None]:
        """What makes two items the same image, whatever their labels are."""
        return self.path, self.place

    def __str__(self) -> str:
        return str(self.path) if self.place is None else f"{self.path}#{self.place}"


@dataclass(frozen=True)
class Split:
    """The images of one task: normal ones to train on, and both kinds to test on.

    Attributes:
        train: normal images, but for a contamination that was asked for.
        test: both kinds.
        pool: images that several tasks draw their training images from; their features are
            extracted once for all of them. None where only this task trains on its images.
    """

    train: list[Item]
    test: list[Item]
    pool: list[Item] | None = None

    @property
    def has_masks(self) -> bool:
        """Whether the defects of the test set are marked pixel by pixel."""
        return any(item.mask is not None for item in self.test)


class Counts(NamedTuple):
    """How many images a task is published with."""

    train: int
    normal: int
    anomalous: int
