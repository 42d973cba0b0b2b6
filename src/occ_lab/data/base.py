"""The contract of a benchmark: its one-class tasks and the images of each task.

This module does not import torch, so that a missing dataset is reported at once.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Literal, get_args

import numpy as np

from occ_lab.data.files import listed
from occ_lab.data.items import Counts, Item, Region, Split
from occ_lab.data.sampling import contaminated, few, turned
from occ_lab.data.value_range import Range, as_range
from occ_lab.utils.errors import InputError, check_number
from occ_lab.utils.files import check_name

if TYPE_CHECKING:
    from occ_lab.data.tiling import Tiles
    from occ_lab.data.transforms import Frame

Kind = Literal["structured", "semantic"]
Crop = int | Literal["whole"]
Models = Literal["separate", "unified"]
LARGEST_SIDE = 10_000  # pixels of a network's input, so that a typing error ends in a message
MULTIPLE = 16  # pixels; the sides of a frame are multiples of the stride of the coarsest level
WORD = re.compile(r"(?<=[a-z])(?=[A-Z]{2}|[A-Z][a-z])")  # where a new word of a class name begins


def check_size(resize: int, crop: Crop) -> None:
    """Raise a ``ValueError`` unless ``1 <= crop <= resize <= 10,000`` or crop is ``whole``."""
    check_number("resize", resize, at_least=1, at_most=LARGEST_SIDE, integer=True)
    if crop != "whole" and (isinstance(crop, str) or not 1 <= crop <= resize):
        raise ValueError(f"crop must be whole, or between 1 and resize={resize}, got {crop}")


class Benchmark(ABC):
    """A dataset as a set of one-class tasks.

    A subclass implements `available`, which names the tasks found under ``root``, and
    `published_split`, which lists the images of one task. Everything else has defaults, which
    class attributes can replace.

    Args:
        name: the name of the benchmark in results; by default the name of the class in lower case,
            such as ``magnetic_tile`` for ``MagneticTile``.
        root: the folder that holds the data; by default ``home``.
        category: the name of a task, a list of names, or ``all``.
        kind: ``structured`` (local defects, scored by patch) or ``semantic`` (images of another
            class, scored by image).
        resize: the height and width in pixels that images are resized to; with ``crop="whole"``,
            the length of their longer side.
        crop: the height and width in pixels of the centre crop after resizing; or ``whole``, which
            cuts nothing off and keeps the aspect ratio, see `preprocessing`.
        rotate: the largest angle in degrees of a random rotation, in 0..180.
        random_crop: whether images are cropped at a random position instead of at the centre.
        tile: the side in pixels of square tiles, a multiple of 16. Images are then not resized but
            cut into tiles, see `occ_lab.data.tiling.Tiles`. ``auto`` uses tiles of 256 pixels if
            whole images would be reduced more than four times, and otherwise no tiles; None uses
            no tiles.
        overlap: the number of pixels that neighbouring tiles share; None is an eighth of a tile.
        test_seed: the seed of the rotation and crop of each test image; None leaves test images
            unchanged. The rotation and crop of training images are drawn again in each epoch.
        range: the lowest and the highest stored value of images of more than 8 bits; they become 0
            and 255. None takes them from the training images, see `value_range`.
        train_limit: the number of training images of a task that are used; None uses all of them.
        contamination: the fraction of the training images that is replaced by anomalous images,
            which are removed from the test set; in 0..0.99.
        sample_seed: the seed of the choice of images for ``train_limit`` and ``contamination``.
        turns: angles in degrees, each in -360..360 and not 0: every training image is also used
            rotated by each of them, for few training images. Borders are reflected.
        protocol: ``separate``, in which each task has training images of its own; or ``unified``,
            in which all tasks that ``category`` selects share the training images of all of them,
            so that one model serves them all. Each task keeps its own test images.

    Attributes:
        kind: set on a class, the default of the argument ``kind``; likewise ``resize``, ``crop``.
        home: the default of ``root``; if empty, ``data/`` followed by the name.
        archive_folder: the folder that the archive of the data unpacks into, if any; it is looked
            for below ``root``.
        layout: the files that are looked for; shown to the user if the data is missing.
        source: where to get the data; shown to the user.
        licence: the licence of the data; shown to the user.
        size: the size of the download; shown to the user.
        task_count: the number of tasks; shown to the user.
        published: the published counts of every task, if they are fixed.
        saturates: whether anomalous images have `regions`.
        multiple: the sides of the frame of whole images are multiples of this number of pixels.

    Example:
        >>> class Bolts(Benchmark):
        ...     def available(self):
        ...         return ["short", "long"]
        ...     def published_split(self, task):
        ...         paths = [self.root / task / f"{number}.png" for number in range(3)]
        ...         return Split([Item(path, 0) for path in paths[:2]], [Item(paths[2], 1)])
        >>> bolts = Bolts(root="data/bolts", category="short")
        >>> bolts.name, bolts.tasks(), len(bolts.split("short").train)
        ('bolts', ['short'], 2)
    """

    kind: Kind = "structured"
    resize: int = 256
    crop: Crop = 224
    home: ClassVar[str] = ""
    archive_folder: ClassVar[str] = ""
    layout: ClassVar[str] = "see the class that reads it"
    source: ClassVar[str] = "your own images"
    licence: ClassVar[str] = "yours"
    size: ClassVar[str] = "any"
    saturates: ClassVar[bool] = False
    task_count: ClassVar[str] = "any"
    published: ClassVar[Mapping[str, Counts]] = MappingProxyType({})

    def __init__(
        self,
        name: str | None = None,
        root: str | Path | None = None,
        category: str | int | Sequence[str | int] = "all",
        kind: Kind | None = None,
        resize: int | None = None,
        crop: Crop | None = None,
        rotate: float = 0.0,
        random_crop: bool = False,
        test_seed: int | None = None,
        range: Sequence[float] | None = None,
        tile: int | Literal["auto"] | None = None,
        overlap: int | None = None,
        train_limit: int | None = None,
        contamination: float = 0.0,
        sample_seed: int = 0,
        turns: Sequence[float] = (),
        protocol: Models = "separate",
    ) -> None:
        if kind is not None:
            self.kind = kind
        if resize is not None:
            self.resize = resize
        if crop is not None:
            self.crop = crop
        if self.kind not in get_args(Kind):
            raise ValueError(f"kind must be structured or semantic, got {kind!r}")
        check_size(self.resize, self.crop)
        # On a command line, a digit (such as a class of MNIST) arrives as a number.
        names = [category] if isinstance(category, str | int) else list(category)
        if not names or "" in names:
            raise ValueError("category is empty: give a name, a list of names, or all")
        if not 0 <= rotate <= 180:
            raise ValueError(f"rotate must be between 0 and 180 degrees, got {rotate}")
        if test_seed is not None:
            check_number("test_seed", test_seed, at_least=0, integer=True)
        if train_limit is not None:
            check_number("train_limit", train_limit, at_least=1, integer=True)
        check_number("contamination", contamination, at_least=0, at_most=0.99)
        check_number("sample_seed", sample_seed, at_least=0, integer=True)
        for turn in turns:
            check_number("turns", turn, at_least=-360, at_most=360)
            if turn % 360 == 0:
                raise ValueError(f"turns: {turn:g} is the image itself; leave it out")
        if protocol not in get_args(Models):
            raise ValueError(f"protocol must be {' or '.join(get_args(Models))}, got {protocol!r}")
        if random_crop and self.crop == "whole":
            raise ValueError("random_crop needs a crop in pixels, got crop='whole'")
        self.tile = tile
        self.overlap = overlap
        if tile is not None:
            self._check_tiles(tile, rotate > 0 or random_crop)
        self.multiple = MULTIPLE
        self._image_sizes: dict[tuple[Path, int | None], tuple[int, int]] = {}
        self._splits: dict[str, Split] | None = None
        self.name = name or WORD.sub("_", type(self).__name__).lower()
        check_name("name", self.name)
        self.root = Path(root if root is not None else self.home or Path("data", self.name))
        if self.archive_folder and (self.root / self.archive_folder).is_dir():
            self.root /= self.archive_folder
        self.category = [str(name) for name in names]
        self.rotate = rotate
        self.random_crop = random_crop
        self.test_seed = test_seed
        self.range = as_range(range)
        self.said: set[tuple[str, str]] = set()  # notes on its tasks that were logged
        self.train_limit = train_limit
        self.contamination = contamination
        self.sample_seed = sample_seed
        self.turns = tuple(float(turn) for turn in turns)
        self.protocol: str = protocol
        self.unified = protocol == "unified"
        self._parts: dict[str, list[Item]] | None = None

    def __getstate__(self) -> dict[str, Any]:
        # Lists of files can be made again, and would be sent to every process that reads images.
        return {**vars(self), "_image_sizes": {}, "_splits": None, "_parts": None}

    @property
    def own(self) -> bool:
        """Whether the images are the user's own rather than those of a published benchmark."""
        return self.licence == Benchmark.licence

    def _check_tiles(self, tile: int | Literal["auto"], random: bool) -> None:
        """Raise a ``ValueError`` unless images can be cut into such tiles."""
        if tile != "auto":
            self._tiled(tile)  # checks the numbers
        if self.kind != "structured":
            raise ValueError(f"tile must be null with kind={self.kind}, which scores whole images")
        if random:
            raise ValueError("tile must be null where images are rotated or cropped at random")

    def _tiled(self, tile: int) -> Tiles:
        from occ_lab.data.tiling import Tiles

        overlap = tile // 8 if self.overlap is None else self.overlap
        return Tiles(tile, overlap)

    @property
    def random(self) -> bool:
        """Whether training images are rotated or cropped at random, differently each epoch."""
        return self.rotate > 0 or self.random_crop

    def split(self, task: str) -> Split:
        """The images of ``task`` after ``train_limit``, ``contamination`` and ``turns``.

        With ``protocol="unified"``, the training images are those of all tasks.

        Raises:
            InputError: more images are requested than there are.
        """
        if self._splits is None:
            return self._listed(task)
        if task not in self._splits:
            self._splits[task] = self._listed(task)
        return self._splits[task]

    @contextmanager
    def unchanged(self) -> Iterator[None]:
        """List the files of each task only once in the block, because they do not change in it."""
        self._splits = {}
        try:
            yield
        finally:
            self._splits = None

    def _listed(self, task: str) -> Split:
        """As `split`, from the files as they are now."""
        own = self._own_split(task)
        if not self.unified:
            return own
        if self._parts is None:
            self._parts = {name: self._own_split(name).train for name in self.tasks()}
        train = [item for part in self._parts.values() for item in part]
        return Split(train, own.test, validation=own.validation, parts=self._parts)

    def _own_split(self, task: str) -> Split:
        """The images of one task after ``train_limit``, ``contamination`` and ``turns``."""
        split = self.published_split(task)
        if self.train_limit is not None:
            split = few(split, task, self.train_limit, self.sample_seed)
        if self.contamination:
            split = contaminated(split, task, self.contamination, self.sample_seed)
        return turned(split, self.turns) if self.turns else split

    def expected(self, task: str) -> Counts | None:
        """The published counts of a task; None if there are none."""
        return self.published.get(task)

    @abstractmethod
    def available(self) -> list[str]:
        """Names of the tasks found under ``root``, sorted; empty if the data is missing."""

    @abstractmethod
    def published_split(self, task: str) -> Split:
        """All images of ``task``, in an order that does not depend on the machine."""

    def preprocessing(self, task: str) -> Frame:
        """How the images of a task are brought to one size.

        With ``crop="whole"`` the frame follows from the sizes of the training images: images of the
        most common shape fill it, and others are padded, see `WholeImage`. The frame also holds the
        range of values that becomes 8 bits, see `value_range`.
        """
        from occ_lab.data.tiling import chosen_tile
        from occ_lab.data.transforms import Preprocessing, WholeImage

        if self.crop != "whole" and self.tile is None:
            return Preprocessing(self.resize, self.crop, range=self.value_range(task))
        sizes = self.frame_sizes(task)
        tile = chosen_tile(sizes, self.resize) if self.tile == "auto" else self.tile
        frame: Frame = (
            Preprocessing(self.resize, self.crop)
            if self.crop != "whole"
            else (WholeImage.of(sizes, self.resize, self.multiple))
        )
        if tile is not None:
            frame = self._tiled(tile)
        return replace(frame, range=self.value_range(task))

    def frame_items(self, task: str) -> Sequence[Item]:
        """The images whose sizes determine the frame of a task: its training images."""
        return self.split(task).train

    def frame_sizes(self, task: str) -> list[tuple[int, int]]:
        """Height and width of these images; unreadable ones are left out."""
        sizes = []
        for item in self.frame_items(task):
            with suppress(OSError):  # the check of all files reports those that cannot be read
                sizes.append(self.image_size(item))
        return sizes

    def image_size(self, item: Item) -> tuple[int, int]:
        """Height and width of an image; reads only its header if possible.

        Raises:
            OSError: it cannot be read.
        """
        from occ_lab.data.headers import image_size

        if item.key not in self._image_sizes:
            if type(self).read is Benchmark.read and item.index is None:
                self._image_sizes[item.key] = image_size(item.path)
            else:
                height, width = self.read(item).shape[:2]
                self._image_sizes[item.key] = height, width
        return self._image_sizes[item.key]

    def read(self, item: Item) -> np.ndarray:
        """The pixels of an image, uint8 RGB ``[h, w, 3]``.

        Values of more than 8 bits are returned as stored, ``[h, w]`` or ``[h, w, 3]`` of another
        dtype; `value_range` says how they are converted to 8 bits.

        Raises:
            OSError: it cannot be read.
        """
        from occ_lab.data.images import read_pixels  # imported late, with its libraries

        return read_pixels(item.path)

    def value_range(self, task: str) -> Range | None:
        """The stored values that become 0 and 255, for images of more than 8 bits.

        They are the argument ``range`` or, by default, the range of the training images, see
        `occ_lab.data.value_range.range_of`. None if these have 8 bits, which stay unchanged.
        """
        from occ_lab.data.deep import learned_range

        return learned_range(self.frame_items(task)) if self.range is None else self.range

    def regions(self, item: Item) -> list[Region]:
        """The annotated regions of a test image whose overlap saturates, at the size of its file.

        They are for sPRO, see `occ_lab.metrics.saturation`; the mask of the image is their union.
        Only a benchmark that ``saturates`` has any.

        Raises:
            OSError: a file cannot be read.
        """
        return []

    def skipped(self, task: str) -> list[Path]:
        """The files in the folders of a task that are not read as images."""
        split = self.split(task)
        every = (*split.train, *split.validation, *split.test)
        files = [item.path for item in every if item.index is None]
        folders = sorted({path.parent for path in files if path.parent.is_dir()})
        return [path for folder in folders for path in listed(folder).skipped]

    def notes(self, task: str) -> list[str]:
        """Further notes for the user about the files of a task, one a line."""
        return []

    def tasks(self) -> list[str]:
        """Names of the tasks that ``category`` selects; all of them are present.

        Raises:
            InputError: there is no data under ``root``, or a category is unknown.
        """
        available = self.available()
        if not available:
            raise InputError(
                f"root: no {self.name} data in {self.root.absolute()}\n"
                f"  looked for: {self.layout}\n"
                f"  get it:     {self.source}\n"
                f"  licence:    {self.licence}\n"
                "Unpack it there, or set root to the folder that holds it.",
                part="dataset",
            )
        if self.category == ["all"]:
            return available
        unknown = [name for name in self.category if name not in available]
        if unknown:
            raise InputError(
                f"category: no {', '.join(unknown)} in {self.root.absolute()}; "
                f"found: {', '.join(available)}",
                part="dataset",
            )
        return list(dict.fromkeys(self.category))
