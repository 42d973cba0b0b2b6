"""The contract of a benchmark: its one-class tasks and the images of each.

Nothing here imports torch, so that a missing dataset is reported at once.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np

from occ_lab.errors import UserError

Kind = Literal["structured", "semantic"]


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

    def __str__(self) -> str:
        return str(self.path) if self.place is None else f"{self.path}#{self.place}"


@dataclass(frozen=True)
class Split:
    """The images of one task: normal ones to train on, and both kinds to test on."""

    train: list[Item]
    test: list[Item]

    @property
    def has_masks(self) -> bool:
        """Whether the defects of the test set are marked pixel by pixel."""
        return any(item.mask is not None for item in self.test)


class Benchmark(ABC):
    """A dataset seen as a set of one-class tasks.

    A subclass says which tasks lie under ``root`` and which files each has. The text that a user
    gets to read where the data is absent comes from ``layout``, ``source`` and ``licence``.

    Args:
        name: what the benchmark is called in results.
        root: the folder that holds the data.
        category: a task's name, a list of them, or ``all``.
        kind: ``structured`` (local defects, scored by patch) or ``semantic`` (another class,
            scored by image).
        resize: images are resized to this many pixels a side.
        crop: then cropped at the centre to this many pixels a side.
        rotate: training images are rotated at random by up to this many degrees, anew each epoch.
    """

    layout: ClassVar[str]
    source: ClassVar[str]
    licence: ClassVar[str]

    def __init__(
        self,
        name: str,
        root: str | Path,
        category: str | int | Sequence[str | int] = "all",
        kind: Kind = "structured",
        resize: int = 256,
        crop: int = 224,
        rotate: float = 0.0,
    ) -> None:
        if kind not in ("structured", "semantic"):
            raise ValueError(f"kind must be structured or semantic, got {kind!r}")
        if resize < 1:
            raise ValueError(f"resize must be at least 1 pixel, got {resize}")
        if not 1 <= crop <= resize:
            raise ValueError(f"crop must be between 1 and resize={resize}, got {crop}")
        # A digit, as MNIST's classes are, comes as a number from the command line.
        names = [category] if isinstance(category, str | int) else list(category)
        if not names or "" in names:
            raise ValueError("category is empty: give a name, a list of names, or all")
        self.name = name
        self.root = Path(root)
        self.category = [str(name) for name in names]
        self.kind = kind
        self.resize = resize
        self.crop = crop
        if not 0 <= rotate <= 180:
            raise ValueError(f"rotate must be between 0 and 180 degrees, got {rotate}")
        self.rotate = rotate

    @abstractmethod
    def available(self) -> list[str]:
        """Names of the tasks found under ``root``, sorted; empty where the data is absent."""

    @abstractmethod
    def split(self, task: str) -> Split:
        """The images of ``task``, in an order that does not depend on the machine."""

    def read(self, item: Item) -> np.ndarray:
        """The pixels of an image, uint8 RGB ``[h, w, 3]``.

        Raises:
            OSError: it cannot be read.
        """
        from occ_lab.data.images import read_image  # with its libraries, only when one is read

        return read_image(item.path)

    def tasks(self) -> list[str]:
        """Names of the tasks that ``category`` selects, each of them present.

        Raises:
            UserError: no data under ``root``, or an unknown category.
        """
        available = self.available()
        if not available:
            raise UserError(
                f"dataset.root: no {self.name} data in {self.root.absolute()}\n"
                f"  looked for: {self.layout}\n"
                f"  get it:     {self.source}\n"
                f"  licence:    {self.licence}\n"
                "Unpack it there, or say where it lies with dataset.root=FOLDER."
            )
        if self.category == ["all"]:
            return available
        unknown = [name for name in self.category if name not in available]
        if unknown:
            raise UserError(
                f"dataset.category: no {', '.join(unknown)} in {self.root.absolute()}; "
                f"found: {', '.join(available)}"
            )
        return list(dict.fromkeys(self.category))


IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"}


def image_files(folder: Path) -> list[Path]:
    """The image files directly in ``folder`` (by suffix), sorted by name; hidden ones left out."""
    if not folder.is_dir():
        return []
    return sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")
    )
