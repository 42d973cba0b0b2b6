"""Reasons why a path contains no images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from occ_lab.data.files import image_suffixes, skipped_line

IN_WORDS = (".png", ".jpg", ".tif", ".bmp", ".webp")  # the most common image suffixes


def no_images(path: Path, skipped: Sequence[Path] = ()) -> str:
    """The reason, in one line, why a path that should be a folder of images contains none.

    Args:
        path: the path; it may not exist, or be a file.
        skipped: the files in it, none of which is read as an image.

    Example:
        >>> no_images(Path("/nowhere"))
        'no images in /nowhere; it does not exist'
        >>> no_images(Path("/films"), [Path("/films/1.mp4")])
        'no images in /films; 1 file is not an image and is skipped: /films/1.mp4'
    """
    where = f"no images in {path.absolute()}"
    if skipped:
        return f"{where}; {skipped_line(skipped)}"
    if path.is_dir():
        return f"{where}; image files end in {', '.join(IN_WORDS)} and others that Pillow reads"
    if path.suffix.lower() in image_suffixes() and path.is_file():
        return f"{where}; it is one image: name its folder, {path.absolute().parent}"
    if path.exists():
        return f"{where}; it is not a folder"
    return f"{where}; it does not exist"
