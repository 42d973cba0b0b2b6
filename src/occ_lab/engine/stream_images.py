"""Where the images of a stream come from, and how they are read ahead."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from occ_lab.data.base import Benchmark, Crop
from occ_lab.data.items import Item, Split
from occ_lab.data.transforms import Seen
from occ_lab.inference.predict import readings

AHEAD = 16  # images that are read ahead while the detector is updated
FILES = "input"  # the name of the task for images without a dataset

S = TypeVar("S")


class ImageFiles(Benchmark):
    """A benchmark of one task without test images: the files of a stream.

    Args:
        paths: the files, in order.
        resize: the longer side of the images after resizing, in pixels.
        crop: ``whole``, or see `Benchmark`.
        range: see `Benchmark`.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        resize: int,
        crop: Crop = "whole",
        range: Sequence[float] | None = None,
    ) -> None:
        super().__init__(resize=resize, crop=crop, range=range)
        self.paths = list(paths)

    def available(self) -> list[str]:
        """The only task."""
        return [FILES]

    def published_split(self, task: str) -> Split:
        """All files, as training images."""
        return Split([Item(path, 0) for path in self.paths], [])


@dataclass(frozen=True)
class Coming:
    """An image of a stream, or a file that could not be read.

    Attributes:
        columns: the columns of its row that are known beforehand; ``path`` comes first.
        seen: the preprocessed image; None if it could not be read.
        error: the reason in that case.
    """

    columns: Mapping[str, Any]
    seen: Seen | None
    error: str = ""


def in_order(
    read: Callable[[S], Seen],
    sources: Sequence[S],
    columns: Callable[[S], Mapping[str, Any]],
    workers: int,
) -> Iterator[Coming]:
    """Images one after another; the next ones are read in the meantime.

    Args:
        read: reads and preprocesses a source.
        sources: the sources, for example paths.
        columns: returns the columns of a source, see `Coming`.
        workers: see `readings`.
    """
    for number, batch in enumerate(readings(read, sources, AHEAD, workers)):
        seen = dict(zip(batch.sources, zip(batch.pixels, batch.sizes, strict=True), strict=True))
        for source in sources[number * AHEAD : (number + 1) * AHEAD]:
            if source in seen:
                yield Coming(columns(source), Seen(*seen[source]))
            else:
                yield Coming(columns(source), None, batch.failed[source])
