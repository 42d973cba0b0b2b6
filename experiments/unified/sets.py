"""The sets at hand as the categories of one benchmark."""

from __future__ import annotations

from functools import cached_property
from typing import Any, ClassVar

from experiments.trial import TEXTURES
from occ_lab.data.base import Benchmark
from occ_lab.data.datasets.magnetic_tile import MagneticTile
from occ_lab.data.datasets.mvtec import MVTec
from occ_lab.data.datasets.textures import Textures
from occ_lab.data.items import Split


class Joined(Benchmark):
    """A transistor, magnetic tiles and three textures.

    Args:
        textures: the folder of the textures; they are written to it at the first use.
        given: the arguments of `Benchmark`; ``root`` is the folder of the real data.
    """

    home: ClassVar[str] = "data"
    resize = 224
    licence = "those of its sets"

    def __init__(self, textures: str = "data", **given: Any) -> None:
        super().__init__(**given)
        self.textures = textures

    @cached_property
    def sets(self) -> dict[str, Benchmark]:
        """The benchmark of each category."""
        textures = Textures(root=self.textures)
        return {
            "transistor": MVTec(root=self.root / "mvtec_256"),
            "magnetic_tile": MagneticTile(root=self.root / "magnetic_tile"),
            **dict.fromkeys(TEXTURES, textures),
        }

    def available(self) -> list[str]:
        """The categories."""
        return list(self.sets)

    def published_split(self, task: str) -> Split:
        """That of the set."""
        return self.sets[task].published_split(task)
