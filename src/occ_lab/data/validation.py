"""Checks every file of a task before any work and reports all problems at once."""

from __future__ import annotations

import io
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path

from PIL import Image

from occ_lab.data.images import read_image
from occ_lab.data.items import Item, Split
from occ_lab.utils.errors import InputError

SHOWN = 20


def check_split(task: str, split: Split) -> None:
    """Raise one error for all files of ``split`` that cannot be used.

    Args:
        task: its name, for the message.
        split: the images to check.

    Raises:
        InputError: there are no training or no test images; images or masks are unreadable; a mask
            has another size than its image; an anomalous image has no mask although others have
            one. The message lists the paths.
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
    """The problems of the image and mask files of a split, a line each."""
    files = [item for item in (*split.train, *split.test) if item.index is None]
    with ThreadPoolExecutor() as pool:
        found = pool.map(lambda item: _problems(item, split.has_masks), files)
        return [problem for several in found for problem in several]


def _problems(item: Item, masks_expected: bool) -> list[str]:
    """The problems of one image and its mask, a line each."""
    problems = []
    sizes = {}
    for path in filter(None, (item.path, item.mask)):
        try:
            status = path.stat()
            sizes[path] = known_size(path, status.st_size, status.st_mtime_ns)
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            problems.append(f"{path}: unreadable ({str(error).replace(str(path), 'it')})")
    if item.mask is None and item.label == 1 and masks_expected:
        problems.append(f"{item.path}: anomalous, but has no mask")
    if item.mask in sizes and item.path in sizes and sizes[item.mask] != sizes[item.path]:
        width, height = sizes[item.mask]
        of_width, of_height = sizes[item.path]
        problems.append(f"{item.mask}: mask is {width}×{height}, image is {of_width}×{of_height}")
    return problems


@lru_cache(maxsize=2**17)
def known_size(path: Path, length: int, changed: int) -> tuple[int, int]:
    """As `image_size`, computed once per file content: tasks made of classes share images."""
    return image_size(path)


def image_size(path: Path) -> tuple[int, int]:
    """Width and height in pixels of an image file that can be read.

    Decoding is slow; it is left out where a PNG's checksums or a JPEG's end marker show that the
    file is complete.

    Raises:
        OSError, SyntaxError: the file is missing, truncated, corrupt or not an image (Pillow's
            errors).
    """
    data = path.read_bytes()
    with Image.open(io.BytesIO(data)) as image:
        size = image.size
        if image.format == "PNG" and data.endswith(b"IEND\xaeB`\x82"):
            image.verify()
        elif not (image.format == "JPEG" and data.rstrip(b"\0").endswith(b"\xff\xd9")):
            read_image(path)
    return size
