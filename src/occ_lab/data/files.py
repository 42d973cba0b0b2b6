"""Which files in a folder are images."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import lru_cache
from pathlib import Path

from occ_lab.utils.errors import InputError

# Formats that Pillow recognises by their suffix but does not read as a single picture: pages,
# drawings, films and containers of other data.
NO_PICTURES = {"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "PDF", "WMF"}
# Folders of the system or of a file server, in addition to names that begin with a dot.
SYSTEM_FOLDERS = {
    *("@eaDir", "#recycle", "$RECYCLE.BIN", "System Volume Information", "__MACOSX"),
    *("lost+found", "__pycache__"),
}
SYSTEM_FILES = {"desktop.ini", "thumbs.db"}
HEIC = {".heic", ".heif", ".hif"}
SHOWN = 3

Identity = tuple[int, int]  # device and inode, equal for all paths of one file or folder


@dataclass(frozen=True)
class Found:
    """The files below a folder.

    Attributes:
        images: the files that are read as images.
        skipped: the other files, such as texts and films, and anything that is not a regular file.
    """

    images: list[Path]
    skipped: list[Path]


@lru_cache(maxsize=1)
def image_suffixes() -> frozenset[str]:
    """The suffixes of image files in lower case: all that Pillow reads, and HEIC if supported.

    Reading HEIC files needs the package ``pillow-heif``.

    Example:
        >>> {".png", ".jpg", ".tif", ".webp", ".bmp"} <= image_suffixes()
        True
        >>> ".pdf" in image_suffixes()
        False
    """
    from PIL import Image

    with suppress(ImportError):
        from pillow_heif import register_heif_opener

        register_heif_opener()
    Image.init()
    known = Image.registered_extensions().items()
    return frozenset(
        suffix.lower()
        for suffix, kind in known
        if (kind in Image.OPEN or kind == "MPO") and kind not in NO_PICTURES
    )


def image_files(folder: Path) -> list[Path]:
    """The image files directly in a folder, sorted by name, without hidden ones."""
    return listed(folder).images if folder.is_dir() else []


def visible_folders(folder: Path) -> list[Path]:
    """The folders directly in a folder, sorted by name, without hidden ones."""
    return listed(folder).folders if folder.is_dir() else []


def images_below(folder: Path) -> list[Path]:
    """The image files in a folder and its subfolders, see `files_below`."""
    return files_below(folder).images


def files_below(folder: Path, leave_out: Collection[Path] = ()) -> Found:
    """The files in a folder and its subfolders, folder by folder in the order of their paths.

    Hidden files and folders are left out: names that begin with a dot, and folders that a system
    uses internally. Symbolic links are followed. A folder that several paths lead to is entered
    once, so a link to a parent folder does no harm. A link to a file that is found itself adds
    nothing.

    Args:
        folder: where to look.
        leave_out: folders and files to leave out, whatever path leads to them.

    Raises:
        InputError: a folder cannot be listed.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     for name in ("1.png", "notes.txt", ".2.png"):
        ...         Path(folder, name).touch()
        ...     found = files_below(Path(folder))
        ...     [path.name for path in found.images], [path.name for path in found.skipped]
        (['1.png'], ['notes.txt'])
    """
    out = {each for path in leave_out if (each := identity(path)) is not None}
    found = sorted(folders_below(folder, out), key=lambda each: each.folder)
    images = [path for each in found for path in each.images]
    linked = {path for each in found for path in each.linked}
    if linked or out:
        here = out | {identity(path) for path in images if path not in linked}
        images = [path for path in images if counts(path, path in linked, here, out)]
    return Found(images, [path for each in found for path in each.skipped])


def counts(path: Path, linked: bool, here: set[Identity | None], out: Collection[Identity]) -> bool:
    """Whether a file is neither found already nor left out; a link is added to the found ones."""
    own = identity(path)
    if own is None:  # a broken link counts as a missing image
        return True
    if not linked:
        return own not in out
    new = own not in here
    here.add(own)
    return new


@dataclass(frozen=True)
class Listed:
    """The direct content of a folder, without hidden names; each part is sorted by name.

    Attributes:
        folder: the folder.
        images: the image files, including broken links, which count as missing images.
        skipped: the other files, and anything that is not a regular file, such as a named pipe.
        folders: the subfolders.
        linked: the images and folders that are symbolic links.
    """

    folder: Path
    images: list[Path]
    skipped: list[Path]
    folders: list[Path]
    linked: set[Path]


def listed(folder: Path) -> Listed:
    """List the direct content of a folder.

    Raises:
        InputError: it cannot be listed.
    """
    found = Listed(folder, [], [], [], set())
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                path = folder / entry.name
                if entry.name.startswith("."):
                    continue
                if entry.is_dir():
                    if entry.name in SYSTEM_FOLDERS:
                        continue
                    found.folders.append(path)
                elif path.suffix.lower() in image_suffixes() and (
                    entry.is_file() or not path.exists()
                ):
                    found.images.append(path)
                elif entry.name.lower() not in SYSTEM_FILES:
                    found.skipped.append(path)
                if entry.is_symlink():
                    found.linked.add(path)
    except OSError as error:
        raise InputError(f"cannot list the folder {folder} ({error.strerror})") from error
    for part in (found.images, found.skipped, found.folders):
        part.sort()
    return found


def folders_below(top: Path, entered: Collection[Identity] = ()) -> Iterator[Listed]:
    """A folder and all folders below it, each once; links come last, so real paths are preferred.

    Args:
        top: where to look.
        entered: folders to skip.
    """
    seen = set(entered)
    waiting: list[Path] = [top]
    links: list[Path] = []
    while waiting or links:
        folder = waiting.pop() if waiting else links.pop(0)
        own = identity(folder)
        if own is None or own in seen:
            continue
        seen.add(own)
        found = listed(folder)
        yield found
        links += [path for path in found.folders if path in found.linked]
        waiting += [path for path in reversed(found.folders) if path not in found.linked]


def matching(top: Path, parts: Sequence[str]) -> Iterator[Path]:
    """The images below a folder that match a pattern, in the order of their paths.

    Args:
        top: the folder.
        parts: the parts of the pattern, such as ``("**", "*.png")``; ``**`` matches any number of
            folders.
    """
    part, rest = parts[0], parts[1:]
    if part == "**":
        for each in sorted(folders_below(top), key=lambda each: each.folder):
            yield from matching(each.folder, rest or ("*",))
    elif rest:
        for folder in visible_folders(top):
            if fnmatchcase(folder.name, part):
                yield from matching(folder, rest)
    else:
        yield from (path for path in image_files(top) if fnmatchcase(path.name, part))


def matching_images(pattern: Path) -> list[Path]:
    """The images that match a pattern such as ``parts/**/*.png``, sorted.

    Links and hidden names are treated as in `files_below`.
    """
    parts = pattern.parts
    fixed = next((at for at, part in enumerate(parts) if re.search(r"[*?[]", part)), len(parts) - 1)
    return sorted(set(matching(Path(*parts[:fixed]), parts[fixed:])))


def identity(path: Path) -> Identity | None:
    """A value that all paths of one file or folder share; None if the path does not exist."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def skipped_line(skipped: Sequence[Path]) -> str:
    """One line about files that are not read as images; empty if there are none.

    Example:
        >>> skipped_line([Path("in/notes.txt")])
        '1 file is not an image and is skipped: in/notes.txt'
    """
    if not skipped:
        return ""
    named = ", ".join(map(str, skipped[:SHOWN]))
    more = f" and {len(skipped) - SHOWN} more" if len(skipped) > SHOWN else ""
    heic = sum(path.suffix.lower() in HEIC for path in skipped)
    advice = f"; to read HEIC ({heic} of them), pip install 'occ-lab[heic]'" if heic else ""
    many = f"{len(skipped)} files are not images and are"
    subject = "1 file is not an image and is" if len(skipped) == 1 else many
    return f"{subject} skipped: {named}{more}{advice}"
