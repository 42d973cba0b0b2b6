"""One-class tasks made of a classification dataset."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, get_args

from occ_lab.data.base import Benchmark
from occ_lab.data.items import Counts, Item, Split
from occ_lab.utils.errors import InputError

Part = Literal["train", "test"]
Protocol = Literal["one_vs_rest", "leave_one_out"]
Classified = tuple[str, Path, int | None]  # class, file, index in the file


class ClassBenchmark(Benchmark):
    """One task for each class: its images are normal, and those of all other classes anomalous.

    This is the protocol of Ruff et al. 2018 (Deep SVDD), section 4.2. A subclass implements
    `available`, which names the classes, and `classified`, which lists their images.

    Args:
        root: the folder that holds the data.
        protocol: ``one_vs_rest``; or ``leave_one_out``, in which the class is anomalous and all
            other classes are normal.
        common: the other arguments of `Benchmark`.

    Raises:
        ValueError: a value is out of range.
    """

    kind = "semantic"
    resize = 224

    def __init__(
        self,
        root: str | Path | None = None,
        protocol: Protocol = "one_vs_rest",
        **common: Any,
    ) -> None:
        if protocol not in get_args(Protocol):
            asked: str = protocol
            reason = "a model for all classes has no anomalies left to find"
            raise ValueError(
                f"protocol must be {' or '.join(get_args(Protocol))}, got {protocol!r}"
                f"{f': {reason}' if asked == 'unified' else ''}"
            )
        super().__init__(root=root, **common)
        self.protocol: Protocol = protocol

    @abstractmethod
    def classified(self, part: Part) -> Sequence[Classified]:
        """Class, file and index in the file of every image, in a fixed order."""

    def published_split(self, task: str) -> Split:
        """The normal training images, and all test images, in the same order for every task.

        The tasks can therefore share the features of the test images. With ``leave_one_out`` they
        also share training images, and all of these form the pool.

        Raises:
            InputError: a file that holds many images is damaged.
        """

        def label(name: str) -> int:
            return int((name == task) == (self.protocol == "leave_one_out"))

        train, test = self._classified
        normal = [Item(path, 0, None, index) for name, path, index in train if not label(name)]
        tested = [Item(path, label(name), None, index) for name, path, index in test]
        if self.protocol == "one_vs_rest":
            return Split(normal, tested)
        return Split(normal, tested, [Item(path, 0, None, index) for _, path, index in train])

    def frame_items(self, task: str) -> Sequence[Item]:
        """The training images of all classes, so that tasks can share the features of an image."""
        train, _ = self._classified
        return [Item(path, 0, None, index) for _, path, index in train]

    @cached_property
    def _classified(self) -> tuple[Sequence[Classified], Sequence[Classified]]:
        """Both parts; they are listed once for all tasks."""
        try:
            return self.classified("train"), self.classified("test")
        except OSError as error:
            raise InputError(f"root: {error}; get the data again", part="dataset") from error

    def class_sizes(self) -> Mapping[str, tuple[int, int]]:
        """The published numbers of training and test images of each class; empty if unknown."""
        return {}

    def expected(self, task: str) -> Counts | None:
        """The published counts, from the sizes of the classes and the protocol."""
        sizes = self.class_sizes()
        if task not in sizes:
            return None
        train, test = (sum(parts) for parts in zip(*sizes.values(), strict=True))
        own_train, own_test = sizes[task]
        if self.protocol == "one_vs_rest":
            return Counts(own_train, own_test, test - own_test)
        return Counts(train - own_train, test - own_test, own_test)
