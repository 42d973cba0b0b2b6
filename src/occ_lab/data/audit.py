"""Checks of a whole benchmark: counts, files, masks, and test images among the training images."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from occ_lab.data.base import Benchmark
from occ_lab.data.items import Counts, Item, Split
from occ_lab.data.mask_reading import read_mask
from occ_lab.data.validation import file_problems
from occ_lab.utils.errors import ImageError
from occ_lab.utils.progress import track


def counts(split: Split) -> Counts:
    """The numbers of images of a split."""
    anomalous = sum(item.label for item in split.test)
    return Counts(len(split.train), len(split.test) - anomalous, anomalous)


def problems(benchmark: Benchmark, splits: dict[str, Split]) -> Iterator[str]:
    """Every problem of the data, as a line that begins with the path; yielded when it is found.

    Args:
        benchmark: reads the images and knows the published counts.
        splits: the published split of every task.
    """
    for task, split in splits.items():
        expected, found = benchmark.expected(task), counts(split)
        for part, number in found._asdict().items():
            if expected is not None and number != getattr(expected, part):
                yield (
                    f"{benchmark.root / task}: {number} {NAMES[part]} images, "
                    f"published are {getattr(expected, part)}"
                )
    seen: set[tuple[Path, int | None]] = set()
    for split in track(splits.values(), "files and masks"):
        # Tasks made of classes share their images, and each image is checked once.
        train, test, validation = (
            [item for item in part if item.key not in seen]
            for part in (split.train, split.test, split.validation)
        )
        new = Split(train, test, validation=validation)
        seen |= {item.key for item in (*train, *test, *validation)}
        yield from file_problems(new)
        yield from black_masks(new)
    yield from duplicates(benchmark, splits)


NAMES = {"train": "training", "normal": "normal test", "anomalous": "anomalous test"}


def black_masks(split: Split) -> Iterator[str]:
    """Masks that mark no pixel. `file_problems` reports the unreadable ones."""
    for item in split.test:
        if item.mask is not None:
            try:
                if not read_mask(item.mask).any():
                    yield f"{item.mask}: marks no pixel"
            except ImageError:
                continue


def duplicates(benchmark: Benchmark, splits: dict[str, Split]) -> Iterator[str]:
    """Test images that equal a training image, and packed images that cannot be read."""
    trained = {item.key: item for split in splits.values() for item in split.train}
    tested = {item.key: item for split in splits.values() for item in split.test}

    def digest(item: Item) -> bytes | str:
        try:
            content = item.path.read_bytes() if item.index is None else benchmark.read(item).data
        except (OSError, IndexError, ValueError) as error:
            return f"{item}: unreadable ({error})"
        return hashlib.sha256(content).digest()

    with ThreadPoolExecutor() as pool:
        both = [*trained.values(), *tested.values()]
        found = track(pool.map(digest, both), "duplicates", len(both))
        digests = dict(zip((*trained, *tested), found, strict=True))
    by_content: dict[bytes, Item] = {}
    for key, item in trained.items():
        content = digests[key]
        if isinstance(content, bytes):
            by_content.setdefault(content, item)
        elif item.index is not None:
            yield content
    for key, item in tested.items():
        content = digests[key]
        if isinstance(content, str):
            if item.index is not None:
                yield content
        elif content in by_content:
            yield f"{item}: the same image as {by_content[content]}, a training image"
