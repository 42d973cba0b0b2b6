"""Magnetic tiles with surface defects."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from occ_lab.data.base import Benchmark
from occ_lab.data.files import image_files, visible_folders
from occ_lab.data.items import Counts, Item, Split
from occ_lab.data.sampling import check_hold_out, hold_out


class MagneticTile(Benchmark):
    """Magnetic tile defects (Huang et al. 2018): one task.

    The dataset has no official split. By convention, a random 80 % of the normal tiles are the
    training images, and the other normal tiles and all defects are the test images.

    Args:
        root: the folder that holds ``MT_Free``, ``MT_Blowhole`` and the other defects.
        train_share: the fraction of the normal tiles to train on, above 0 and below 1.
        split_seed: the seed of the random split.
        common: the other arguments of `Benchmark`.

    Raises:
        ValueError: a value is out of range.
    """

    layout = "MT_Free/Imgs/*.jpg; MT_<Defect>/Imgs/*.jpg, each with its mask *.png beside it"
    source = "https://github.com/abin24/Magnetic-tile-defect-datasets."
    size = "0.1 GB"
    task_count = "1"
    published: ClassVar[Mapping[str, Counts]] = {"magnetic_tile": Counts(762, 190, 392)}
    crop = 256
    licence = "free to use; cite Huang, Qiu, Yuan: Surface defect saliency of magnetic tile, 2018"

    def __init__(
        self,
        root: str | Path | None = None,
        train_share: float = 0.8,
        split_seed: int = 0,
        **common: Any,
    ) -> None:
        check_hold_out(train_share, split_seed)
        super().__init__(root=root, **common)
        self.train_share = train_share
        self.split_seed = split_seed

    def available(self) -> list[str]:
        """The only task if there are normal tiles; otherwise none."""
        return ["magnetic_tile"] if self._tiles("MT_Free") else []

    def published_split(self, task: str) -> Split:
        """Normal tiles split at random by ``split_seed``; all defects are test images."""
        normal = [Item(path, 0) for path in self._tiles("MT_Free")]
        train, held_out = hold_out(normal, self.train_share, self.split_seed)
        defects = [
            Item(path, 1, mask if (mask := path.with_suffix(".png")).is_file() else None)
            for folder in visible_folders(self.root)
            if folder.name.startswith("MT_") and folder.name != "MT_Free"
            for path in self._tiles(folder.name)
        ]
        return Split(train, held_out + defects)

    def _tiles(self, kind: str) -> list[Path]:
        """The photographs of one kind; some copies of the dataset have no folder ``Imgs``."""
        folder = self.root / kind
        paths = image_files(folder / "Imgs") or image_files(folder)
        return [path for path in paths if path.suffix.lower() == ".jpg"]
