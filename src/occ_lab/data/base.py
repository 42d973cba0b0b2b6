"""The contract of a benchmark: its one-class tasks and the images of each.

Nothing here imports torch, so that a missing dataset is reported at once.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar, Literal

import numpy as np

from occ_lab.data.items import Counts, Item, Split
from occ_lab.data.sampling import contaminated, few
from occ_lab.utils.errors import InputError, check_number

Kind = Literal["structured", "semantic"]


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
        rotate: images are rotated at random by up to this many degrees.
        random_crop: they are cropped at random in place of the centre.
        test_seed: of the rotation and crop of each test image; None leaves the test images as they
            are. Those of training images are drawn anew each epoch.
        train_limit: how many of the training images of a task are taken; None is all of them.
        contamination: share of the training images that is replaced by anomalous images, taken out
            of the test set; at least 0, below 1.
        sample_seed: of the choice of either.

    Attributes:
        size: of the download, for people.
        task_count: how many tasks there are, for people.
        published: the counts of every task, where they are fixed.
    """

    layout: ClassVar[str]
    source: ClassVar[str]
    licence: ClassVar[str]
    size: ClassVar[str]
    task_count: ClassVar[str]
    published: ClassVar[Mapping[str, Counts]] = MappingProxyType({})

    def __init__(
        self,
        name: str,
        root: str | Path,
        category: str | int | Sequence[str | int] = "all",
        kind: Kind = "structured",
        resize: int = 256,
        crop: int = 224,
        rotate: float = 0.0,
        random_crop: bool = False,
        test_seed: int | None = None,
        train_limit: int | None = None,
        contamination: float = 0.0,
        sample_seed: int = 0,
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
        if test_seed is not None:
            check_number("test_seed", test_seed, at_least=0, integer=True)
        if train_limit is not None:
            check_number("train_limit", train_limit, at_least=1, integer=True)
        check_number("contamination", contamination, at_least=0, at_most=0.99)
        check_number("sample_seed", sample_seed, at_least=0, integer=True)
        self.rotate = rotate
        self.random_crop = random_crop
        self.test_seed = test_seed
        self.train_limit = train_limit
        self.contamination = contamination
        self.sample_seed = sample_seed

    @property
    def random(self) -> bool:
        """Whether training images are drawn anew each epoch."""
        return self.rotate > 0 or self.random_crop

    def split(self, task: str) -> Split:
        """The images of ``task``: the published ones, as far as they are asked for.

        Raises:
            InputError: more are asked for than there are.
        """
        split = self.published_split(task)
        if self.train_limit is not None:
            split = few(split, task, self.train_limit, self.sample_seed)
        if self.contamination:
            split = contaminated(split, task, self.contamination, self.sample_seed)
        return split

    def expected(self, task: str) -> Counts | None:
        """The published counts of a task; None where there are none."""
        return self.published.get(task)

    @abstractmethod
    def available(self) -> list[str]:
        """Names of the tasks found under ``root``, sorted; empty where the data is absent."""

    @abstractmethod
    def published_split(self, task: str) -> Split:
        """All images of ``task``, in an order that does not depend on the machine."""

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
            InputError: no data under ``root``, or an unknown category.
        """
        available = self.available()
        if not available:
            raise InputError(
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
            raise InputError(
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
