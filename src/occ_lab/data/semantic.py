"""One-class tasks made of a classification dataset."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, get_args

from occ_lab.data.base import Benchmark, Item, Split

Part = Literal["train", "test"]
Protocol = Literal["one_vs_rest", "leave_one_out"]


class ClassBenchmark(Benchmark):
    """A task for each class: it is normal and the others are not (Ruff et al. 2018, section 4.2).

    A subclass says which classes there are and which images each has.

    Args:
        root: the folder of the data.
        protocol: ``one_vs_rest``, or ``leave_one_out``, in which the class is the anomalous one and
            all others are normal.
        common: the arguments of every benchmark.
    """

    def __init__(self, root: str | Path, protocol: Protocol = "one_vs_rest", **common: Any) -> None:
        if protocol not in get_args(Protocol):
            raise ValueError(
                f"protocol must be {' or '.join(get_args(Protocol))}, got {protocol!r}"
            )
        super().__init__(root=root, **{"kind": "semantic", **common})
        self.protocol = protocol

    @abstractmethod
    def classified(self, part: Part) -> Sequence[tuple[str, Path, int | None]]:
        """Class, file and place in the file of every image, in a fixed order."""

    def split(self, task: str) -> Split:
        """Normal training images, and all test images: the same ones, in one order, for any task.

        That order lets the tasks share the test images' features.
        """

        def label(name: str) -> int:
            return int((name == task) == (self.protocol == "leave_one_out"))

        train = [
            Item(path, 0, None, place)
            for name, path, place in self.classified("train")
            if not label(name)
        ]
        test = [
            Item(path, label(name), None, place) for name, path, place in self.classified("test")
        ]
        return Split(train, test)
