"""Check every file of a task before any work and report all problems at once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path

from occ_lab.data.deep import extremes
from occ_lab.data.headers import Header, header
from occ_lab.data.images import opened, read_pixels
from occ_lab.data.items import Item, Split
from occ_lab.data.mask_reading import mask_files
from occ_lab.utils.budget import Budget
from occ_lab.utils.errors import ImageError, InputError

SHOWN = 20
BYTES = 4  # per decoded pixel
DECODED = Budget(2**31)  # bytes that all threads together decode at once
END = 2**16  # bytes at the end of a file that are searched for its end marker


def check_split(task: str, split: Split) -> None:
    """Raise one error that reports all files of ``split`` that cannot be used.

    Args:
        task: its name, for the message.
        split: the images to check.

    Raises:
        InputError: there are no training or no test images; images or masks are unreadable; the
            size of a mask differs from that of its image; or an anomalous image has no mask
            although others have one. The message lists the paths.
    """
    for part in ("train", "test"):
        if not getattr(split, part):
            raise InputError(
                f"{task}: there is no image to {part} on; add some or leave the category out"
            )
    problems = file_problems(split)
    if problems:
        shown = "\n".join(f"  {problem}" for problem in problems[:SHOWN])
        more = f"\n  … and {len(problems) - SHOWN} more" if len(problems) > SHOWN else ""
        raise InputError(
            f"{task}: {len(problems)} file(s) cannot be used; repair or remove them:\n{shown}{more}"
        )


def file_problems(split: Split) -> list[str]:
    """The problems of the image and mask files of a split, one a line."""
    every = (*split.train, *split.validation, *split.test)
    files = [item for item in every if item.index is None]
    with ThreadPoolExecutor() as pool:
        found = pool.map(lambda item: _problems(item, split.has_masks), files)
        return [problem for several in found for problem in several]


def _problems(item: Item, masks_expected: bool) -> list[str]:
    """The problems of one image and its mask, one a line."""
    problems = []
    sizes = {}
    masks: list[Path] = []
    try:
        masks = [] if item.mask is None else mask_files(item.mask)
    except ImageError as error:
        problems.append(str(error))
    for path in (item.path, *masks):
        try:
            sizes[path] = image_size(path)
        except ImageError as error:
            problems.append(str(error))
    if item.mask is None and item.label == 1 and masks_expected:
        problems.append(f"{item.path}: anomalous, but has no mask")
    for mask in masks:
        if mask in sizes and item.path in sizes and sizes[mask] != sizes[item.path]:
            height, width = sizes[mask]
            of_height, of_width = sizes[item.path]
            problems.append(f"{mask}: mask is {width}×{height}, image is {of_width}×{of_height}")
    return problems


def image_size(path: Path) -> tuple[int, int]:
    """Height and width in pixels of an image file as displayed, after checking that it is readable.

    Raises:
        ImageError: the file is missing, truncated, corrupt, too large or not an image.
    """
    found = header(path)
    status = path.stat()
    with DECODED.of(BYTES * found.height * found.width):
        check_whole(path, found, status.st_size, status.st_mtime_ns)
    return found.height, found.width


@lru_cache(maxsize=2**17)
def check_whole(path: Path, found: Header, length: int, changed: int) -> None:
    """Raise an error unless a file can be read; once per content, as tasks may share images.

    Decoding is slow. It is skipped if the checksums of a PNG or the end marker of a JPEG show that
    the file is complete.

    Raises:
        ImageError: the file cannot be read.
    """
    with path.open("rb") as file:
        file.seek(max(0, length - END))
        end = file.read().rstrip(b"\0")
    if found.format == "PNG" and end.endswith(b"IEND\xaeB`\x82"):
        with opened(path) as image:
            image.verify()  # type: ignore[union-attr]
    elif found.format in ("JPEG", "MPO") and end.endswith(b"\xff\xd9"):
        return
    elif found.deep:
        extremes(path)
    else:
        read_pixels(path)
