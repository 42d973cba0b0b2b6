"""Faces with and without an attribute."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, get_args

from occ_lab.data.base import Benchmark
from occ_lab.data.items import Item, Split
from occ_lab.utils.errors import InputError

Normal = Literal["absent", "present"]
TRAIN, TEST = "0", "2"  # of the published partition; 1 is the validation partition


class CelebA(Benchmark):
    """CelebA (Liu et al. 2015), from the files of torchvision.

    By default, faces without glasses are normal.

    There is one task. The training images are the normal faces of the training partition, and the
    test images are the whole test partition.

    Args:
        root: the folder that holds ``celeba``.
        attribute: one of the forty attributes, such as ``Eyeglasses``.
        normal: whether faces are normal if the attribute is ``absent`` or ``present``.
        common: the other arguments of `Benchmark`.

    Raises:
        ValueError: a value is out of range.
    """

    layout = "celeba/{img_align_celeba/*.jpg,list_attr_celeba.txt,list_eval_partition.txt}"
    source = "https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html (aligned and cropped images)"
    licence = "for research only; see its agreement"
    size = "1.4 GB"
    task_count = "1"
    home = "data"
    kind = "semantic"
    resize = 224

    def __init__(
        self,
        root: str | Path | None = None,
        attribute: str = "Eyeglasses",
        normal: Normal = "absent",
        **common: Any,
    ) -> None:
        if normal not in get_args(Normal):
            raise ValueError(f"normal must be {' or '.join(get_args(Normal))}, got {normal!r}")
        super().__init__(root=root, **common)
        self.attribute = attribute
        self.normal = normal
        self.folder = self.root / "celeba"

    def available(self) -> list[str]:
        """The only task if the images and both lists are present; otherwise none."""
        wanted = ("img_align_celeba", "list_attr_celeba.txt", "list_eval_partition.txt")
        if not all((self.folder / name).exists() for name in wanted):
            return []
        return [self.attribute if self.normal == "present" else f"no_{self.attribute}"]

    def published_split(self, task: str) -> Split:
        """The published partition, labelled by the attribute.

        Raises:
            InputError: the attribute does not exist.
        """
        lines = (self.folder / "list_attr_celeba.txt").read_text(encoding="utf-8").splitlines()
        attributes = lines[1].split()  # the first line is the number of images
        if self.attribute not in attributes:
            raise InputError(
                f"attribute: no {self.attribute}; there are {', '.join(attributes)}",
                part="dataset",
            )
        column = 1 + attributes.index(self.attribute)
        normal = "1" if self.normal == "present" else "-1"
        labels = {fields[0]: int(fields[column] != normal) for fields in map(str.split, lines[2:])}
        table = (self.folder / "list_eval_partition.txt").read_text(encoding="utf-8")
        items: dict[str, list[Item]] = {TRAIN: [], "1": [], TEST: []}
        for name, partition in map(str.split, table.splitlines()):
            path = self.folder / "img_align_celeba" / name
            items[partition].append(Item(path, labels[name]))
        return Split([item for item in items[TRAIN] if item.label == 0], items[TEST])
