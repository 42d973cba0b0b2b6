"""Surfaces of electrical commutators."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import ClassVar

from occ_lab.data.base import Benchmark
from occ_lab.data.files import image_files
from occ_lab.data.items import Counts, Item, Split
from occ_lab.utils.errors import InputError

MASK = "_GT"  # the end of the name of a mask, before its suffix


class KolektorSDD2(Benchmark):
    """KolektorSDD2 (Božič et al. 2021, Computers in Industry 129): one task.

    ``train`` and ``test`` hold images such as ``10301.png`` and beside each its mask
    ``10301_GT.png``, which is black for a normal image. The published split is for supervised
    methods: its anomalous training images are left out here.

    The images are about 230 × 630 pixels; they are used whole.
    """

    layout = "{train,test}/<number>.png, each with its mask <number>_GT.png beside it"
    source = "https://www.vicos.si/resources/kolektorsdd2/"
    licence = "CC BY-NC-SA 4.0 (no commercial use)"
    size = "not given"
    task_count = "1"
    resize = 640
    crop = "whole"
    published: ClassVar[Mapping[str, Counts]] = {"kolektor_sdd2": Counts(2085, 894, 110)}

    def available(self) -> list[str]:
        """The only task if there are training images; otherwise none."""
        return ["kolektor_sdd2"] if _photographs(self.root / "train") else []

    def published_split(self, task: str) -> Split:
        """The normal images of ``train``, and all images of ``test``.

        Raises:
            InputError: an image has no mask, so that its label is unknown.
            ImageError: a mask cannot be read.
        """
        train, test = (
            [_labelled(path) for path in _photographs(self.root / part)]
            for part in ("train", "test")
        )
        return Split([item for item in train if item.label == 0], test)


def _photographs(folder: Path) -> list[Path]:
    """The images of a folder, without masks and copies."""
    return [path for path in image_files(folder) if path.stem.isdigit()]


def _labelled(path: Path) -> Item:
    """An image with the label that its mask implies."""
    mask = path.with_name(f"{path.stem}{MASK}.png")
    if not mask.is_file():
        raise InputError(
            f"masks: {path} has no {mask.name} beside it, so that its label is unknown; unpack the "
            "archive again",
            part="dataset",
        )
    status = mask.stat()
    marked = _marks(mask, status.st_size, status.st_mtime_ns)
    return Item(path, 1, mask) if marked else Item(path, 0)


@lru_cache(maxsize=2**13)
def _marks(mask: Path, length: int, changed: int) -> bool:
    """Whether a mask marks a pixel; length and time of change identify its content."""
    from occ_lab.data.mask_reading import read_mask  # imported late, with its libraries

    return bool(read_mask(mask).any())
