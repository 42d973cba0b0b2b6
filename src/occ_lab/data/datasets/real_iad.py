"""Thirty objects from five sides."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, get_args

from occ_lab.data.base import Benchmark
from occ_lab.data.items import Item, Split
from occ_lab.utils.errors import InputError

Views = Literal["multi", "single"]

RESOLUTIONS = ("256", "512", "1024", "raw")
TABLES = {"multi": "realiad_jsons", "single": "realiad_jsons_sv"}


class RealIAD(Benchmark):
    """Real-IAD (Wang et al. 2024, CVPR, arXiv 2403.12580): 30 objects from five sides each.

    The images of an object lie below ``realiad_<resolution>/<object>``. Which of them are training
    and test images, their masks and their labels stand in a JSON file for each object: in
    ``realiad_jsons`` for all five views, in ``realiad_jsons_sv`` for the view from above alone. An
    image is normal if it has no mask or its class is the normal one, so that a view of an anomalous
    part on which no defect is visible counts as normal, as in the official code.

    Args:
        root: the folder that holds ``realiad_<resolution>`` and the JSON files, in
            ``realiad_jsons/realiad_jsons`` or in ``realiad_jsons``.
        views: ``multi`` (all five views, each an image of its own) or ``single``.
        resolution: the size of the images in pixels: 256, 512, 1024 or ``raw``.
        common: the other arguments of `Benchmark`.

    Raises:
        ValueError: a value is out of range.
    """

    layout = (
        "realiad_<resolution>/<object>/{OK,NG}/…, "
        "realiad_jsons/{realiad_jsons,realiad_jsons_sv}/<object>.json"
    )
    source = "https://realiad4ad.github.io/Real-IAD (on request)"
    licence = "CC BY-NC-SA 4.0 (no commercial use)"
    size = "not given"
    task_count = "30"
    crop = 256

    def __init__(
        self,
        root: str | Path | None = None,
        views: Views = "multi",
        resolution: str | int = 1024,
        **common: Any,
    ) -> None:
        for name, value, choice in (
            ("views", views, get_args(Views)),
            ("resolution", str(resolution), RESOLUTIONS),
        ):
            if value not in choice:
                raise ValueError(f"{name} must be one of {', '.join(choice)}, got {value!r}")
        super().__init__(root=root, **common)
        self.views = views
        self.resolution = resolution

    @property
    def tables(self) -> Path:
        """The folder of the JSON files of the chosen views."""
        name = TABLES[self.views]
        inner = self.root / "realiad_jsons" / name
        return inner if inner.is_dir() else self.root / name

    @property
    def images(self) -> Path:
        """The folder of the objects' images at the chosen resolution."""
        return self.root / f"realiad_{self.resolution}"

    def available(self) -> list[str]:
        """The objects that have a JSON file and a folder of images."""
        if not self.tables.is_dir():
            return []
        names = sorted(path.stem for path in self.tables.glob("[!.]*.json"))
        return [name for name in names if (self.images / name).is_dir()]

    def published_split(self, task: str) -> Split:
        """The split of the object's JSON file.

        Raises:
            InputError: the file is not as published.
        """
        path = self.tables / f"{task}.json"
        try:
            table = _table(path, path.stat().st_mtime_ns)
            normal = table.get("meta", {}).get("normal_class", "OK")
            train, test = (
                [_item(self.images / task, row, normal) for row in table[part]]
                for part in ("train", "test")
            )
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(
                f"{path.absolute()} is not as published ({type(error).__name__}: {error}); get "
                "realiad_jsons.zip again",
                part="dataset",
            ) from error
        return Split([item for item in train if item.label == 0], test)


def _item(folder: Path, row: dict[str, Any], normal: str) -> Item:
    """The image of a row of the table."""
    image, mask = folder / row["image_path"], row["mask_path"]
    if mask is None or row["anomaly_class"] == normal:
        return Item(image, 0)
    return Item(image, 1, folder / mask)


@lru_cache(maxsize=64)
def _table(path: Path, changed: int) -> dict[str, Any]:
    """The content of a JSON file; the time of change identifies it."""
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content
