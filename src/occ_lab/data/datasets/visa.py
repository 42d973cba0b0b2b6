"""Twelve objects of VisA, in the layout as downloaded."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any, Literal, get_args

from occ_lab.data.base import Benchmark, Models
from occ_lab.data.files import image_files, visible_folders
from occ_lab.data.items import Counts, Item, Split
from occ_lab.data.masks import Below, masks_of
from occ_lab.utils.errors import InputError

Protocol = Literal["last_100", "official", "unified"]

# Numbers of normal and anomalous images, and of normal test images in the official table.
IMAGES = {
    "candle": (1000, 100, 100),
    "capsules": (602, 100, 60),
    "cashew": (500, 100, 50),
    "chewinggum": (503, 100, 50),
    "fryum": (500, 100, 50),
    "macaroni1": (1000, 100, 100),
    "macaroni2": (1000, 100, 100),
    "pcb1": (1004, 100, 100),
    "pcb2": (1001, 100, 100),
    "pcb3": (1006, 100, 101),
    "pcb4": (1005, 100, 101),
    "pipe_fryum": (500, 100, 50),
}
TESTED = 100  # normal test images under last_100


class VisA(Benchmark):
    """VisA (Zou et al. 2022), 10,821 images of twelve objects.

    Args:
        root: the folder that holds the objects and ``split_csv``.
        protocol: ``last_100``, in which the last 100 normal images by name are test images, as in
            NoCo (Gao et al. 2023); ``official``, the table ``split_csv/1cls.csv``; or ``unified``,
            which is ``last_100`` with one model for all objects, see `Benchmark`.
        common: the other arguments of `Benchmark`.

    Raises:
        ValueError: a value is out of range.
    """

    layout = "<object>/Data/Images/{Normal,Anomaly}/*.JPG, Data/Masks/Anomaly/*.png; split_csv"
    source = "https://github.com/amazon-science/spot-diff"
    licence = "CC BY 4.0"
    size = "1.9 GB"
    task_count = "12"

    def __init__(
        self, root: str | Path | None = None, protocol: Protocol = "last_100", **common: Any
    ) -> None:
        if protocol not in get_args(Protocol):
            raise ValueError(
                f"protocol must be {' or '.join(get_args(Protocol))}, got {protocol!r}"
            )
        models: Models = "unified" if protocol == "unified" else "separate"
        super().__init__(root=root, protocol=models, **common)
        self.protocol: Protocol = protocol

    def expected(self, task: str) -> Counts | None:
        """The published counts under the protocol."""
        if task not in IMAGES:
            return None
        normal, anomalous, tested = IMAGES[task]
        held_out = tested if self.protocol == "official" else TESTED
        return Counts(normal - held_out, held_out, anomalous)

    def available(self) -> list[str]:
        """The folders under ``root`` that hold normal images."""
        return [
            folder.name
            for folder in visible_folders(self.root)
            if (folder / "Data" / "Images" / "Normal").is_dir()
        ]

    def published_split(self, task: str) -> Split:
        """The split by name or by the official table.

        Raises:
            InputError: the table is missing.
        """
        return self._by_table(task) if self.protocol == "official" else self._by_name(task)

    def _by_name(self, task: str) -> Split:
        data = self.root / task / "Data"
        normal = [Item(path, 0) for path in image_files(data / "Images" / "Normal")]
        images = Below(data / "Images", image_files(data / "Images" / "Anomaly"))
        masks = masks_of(images, Below(data / "Masks", image_files(data / "Masks" / "Anomaly")))
        anomalous = [Item(path, 1, masks.get(path)) for path in images.files]
        return Split(normal[:-TESTED], normal[-TESTED:] + anomalous)

    def _by_table(self, task: str) -> Split:
        table = self.root / "split_csv" / "1cls.csv"
        if not table.is_file():
            raise InputError(
                f"protocol: official needs {table.absolute()}, which is part of the archive; "
                "get it, or set protocol to last_100",
                part="dataset",
            )
        train: list[Item] = []
        test: list[Item] = []
        with table.open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                if row["object"] == task:
                    label = int(row["label"] == "anomaly")
                    mask = self.root / row["mask"] if label and row["mask"] else None
                    item = Item(self.root / row["image"], label, mask)
                    (train if row["split"] == "train" else test).append(item)
        return Split(train, test)
