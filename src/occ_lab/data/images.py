"""Reading images and masks."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from occ_lab.data.files import image_files, image_suffixes
from occ_lab.data.value_range import Range, eight_bits, extremes_of, range_of
from occ_lab.utils.errors import ImageError

ORIENTATION = ExifTags.Base.Orientation
TIFF_SIZE = (256, 257)  # the tags for width and height
TIFF_BITS = 258  # the tag for the number of bits of each colour
TIFF_FORMAT = 339  # the tag for the number format
UNSIGNED, SIGNED = 1, 2
WIDE = {"PNG", "TIFF", "JPEG2000"}  # formats with 16 bits a colour, which Pillow reduces to 8
# Formats whose decoded values may differ from the values that were saved.
LOSSY = {"JPEG", "MPO", "AVIF", "HEIF"}
TIFFS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # how TIFF and BigTIFF files begin
LATE = 2**17  # bytes at the end of a PNG that are searched for EXIF data


class Header(NamedTuple):
    """The information in the header of an image file.

    Attributes:
        height: the height in pixels of the image as displayed.
        width: likewise.
        format: the format, as Pillow names it.
        deep: whether its values have more than 8 bits.
        pages: the number of pages, frames or layers; the first one is read.
    """

    height: int
    width: int
    format: str
    deep: bool
    pages: int


def read_image(path: Path, range: Range | None = None) -> np.ndarray:
    """Read an image file as 8-bit RGB, oriented for display.

    Grey and palette images become RGB, an alpha channel is dropped, and the orientation that a
    camera has stored is applied. If there are several pages or frames, the first one is read.

    Args:
        path: the file.
        range: the stored values that become 0 and 255 if the values have more than 8 bits. None
            takes them from this image, see `occ_lab.data.value_range.range_of`; images that are to
            be compared need a common range.

    Returns:
        uint8 ``[h, w, 3]``.

    Raises:
        ImageError: the file is missing, truncated, too large or not an image.
    """
    stored = read_pixels(path)
    if stored.dtype == np.uint8:
        return stored
    return eight_bits(stored, range or range_of([extremes_of(stored)]), path)


def read_pixels(source: Path | bytes) -> np.ndarray:
    """Read an image file, oriented for display, with the values as stored.

    Args:
        source: the file, or its content.

    Returns:
        uint8 ``[h, w, 3]``, RGB; if the values have more than 8 bits, ``[h, w]`` or ``[h, w, 3]``
        of another dtype.

    Raises:
        ImageError: the file is missing, truncated, too large or not an image.
    """
    with opened(source) as file:
        values = file if isinstance(file, np.ndarray) else shown(file)
        return (
            eight_bits(values, None) if values.dtype == np.uint8 else np.ascontiguousarray(values)
        )


def read_mask(path: Path) -> np.ndarray:
    """Read a mask file: pixels with any non-zero stored value are anomalous.

    The masks of a folder are joined: a pixel is anomalous if it is in any of them.

    In JPEG and other lossy formats, these are the pixels above half of the highest value. The alpha
    channel is used as the mask if the colours alone mark everything or nothing.

    Returns:
        bool ``[h, w]``.

    Raises:
        ImageError: a file is missing, truncated, too large or not an image, or the files of a
            folder differ in size.
    """
    if path.is_dir():
        masks = [read_mask(file) for file in mask_files(path)]
        if len({mask.shape for mask in masks}) > 1:
            raise ImageError(f"{path}: the masks in it differ in size")
        joined: np.ndarray = np.logical_or.reduce(masks)
        return joined
    with opened(path) as file:
        if isinstance(file, np.ndarray):
            return anywhere(file != 0)
        lossy = is_lossy(file)
        if wide(file):
            values = wide_values(file)
            values, alpha = values[..., :3], values[..., 3:]
        else:
            file.load()
            values, alpha = values_and_alpha(file)
        turn = orientation(file)

    def nonzero(channel: np.ndarray) -> np.ndarray:
        return anywhere(channel > channel.max() / 2 if lossy else channel != 0)

    marked = nonzero(values)
    if alpha.size and alpha.min() != alpha.max() and (marked.all() or not marked.any()):
        marked = nonzero(alpha)
    return np.ascontiguousarray(oriented(marked, turn))


def stored_values(path: Path) -> np.ndarray:
    """The values that an image file of one channel stores, ``[h, w]``, such as kinds of defects.

    Of several channels, the highest value is returned.

    Raises:
        ImageError: the file is missing, truncated, too large or not an image.
    """
    with opened(path) as file:
        if isinstance(file, np.ndarray):
            return file
        file.load()
        values, _ = values_and_alpha(file)
    return values if values.ndim == 2 else values.max(axis=-1)


def mask_files(path: Path) -> list[Path]:
    """The files of a mask: those in it if it is a folder, otherwise itself.

    Raises:
        ImageError: the folder holds no image.
    """
    if not path.is_dir():
        return [path]
    files = image_files(path)
    if not files:
        raise ImageError(f"{path}: this folder holds no mask")
    return files


def image_size(path: Path) -> tuple[int, int]:
    """Height and width of an image file as `read_image` returns it; only its header is read.

    Raises:
        ImageError: the file is missing, too large or not an image.
    """
    found = header(path)
    return found.height, found.width


def header(path: Path) -> Header:
    """The header of an image file; an unchanged file is not opened again.

    Raises:
        ImageError: the file is missing, too large or not an image.
    """
    try:
        status = path.stat()
    except OSError as error:
        raise ImageError(f"{path}: unreadable ({error.strerror})") from error
    return known_header(path, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=2**17)
def known_header(path: Path, length: int, changed: int) -> Header:
    """As `header`; length and time of change identify the content of the file in the cache."""
    with opened(path) as file:
        if isinstance(file, np.ndarray):
            height, width = file.shape[:2]
            return Header(height, width, "TIFF", file.dtype != np.uint8, 1)
        deep = numbers(file) or wide(file)
        turned = (header_orientation(path, file) or 1) >= 5
        tags: Any = getattr(file, "tag_v2", {})
        # It depends on Pillow's version whether it returns the stored or the displayed size.
        width, height = (
            tags.get(tag, side) for tag, side in zip(TIFF_SIZE, file.size, strict=True)
        )
        width, height = (height, width) if turned else (width, height)
        return Header(height, width, file.format or "", deep, page_count(file))


def page_count(file: Image.Image) -> int:
    """The number of pages, frames or layers of an image, as far as they can be counted."""
    if file.format == "MPO":  # the additional pictures are previews or gain maps
        return 1
    try:
        return int(getattr(file, "n_frames", None) or 1)
    except Exception:  # the first page may be intact
        return 1


@contextmanager
def opened(source: Path | bytes) -> Iterator[Image.Image | np.ndarray]:
    """Open an image file, or its content, with Pillow.

    Yields:
        The image; the values of a TIFF that Pillow does not support.

    Raises:
        ImageError: the file cannot be read; the message begins with the path, or with ``image``.
    """
    image_suffixes()  # registers HEIC with Pillow
    path = source if isinstance(source, Path) else "image"
    try:
        try:
            with Image.open(as_file(source)) as file:
                yield file
        except UnidentifiedImageError:
            if not is_tiff(source):
                raise
            yield tiff_values(source)
    except ImageError:
        raise
    except Image.DecompressionBombError as error:
        limit = f"{2 * (Image.MAX_IMAGE_PIXELS or 0):,}"
        raise ImageError(
            f"{path}: unreadable (more than {limit} pixels, which could fill the memory)"
        ) from error
    except UnidentifiedImageError as error:
        raise ImageError(f"{path}: unreadable (not an image)") from error
    except Exception as error:  # Pillow raises errors of many kinds if a file is damaged
        said = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise ImageError(f"{path}: unreadable ({said.splitlines()[0]})") from error


def as_file(source: Path | bytes) -> Path | io.BytesIO:
    """What libraries open: a path, or content as a file in memory."""
    return source if isinstance(source, Path) else io.BytesIO(source)


def is_tiff(source: Path | bytes) -> bool:
    """Whether a file is a TIFF by its name, or content by its first bytes."""
    if isinstance(source, Path):
        return source.suffix.lower() in (".tif", ".tiff")
    return source[:4] in TIFFS


def shown(file: Image.Image) -> np.ndarray:
    """The values of an opened image, in the form that `read_pixels` returns.

    Raises:
        ImageError: 16 bits a colour in a format other than PNG, TIFF and JPEG 2000.
    """
    if wide(file):
        values = wide_values(file)[..., :3]
    elif numbers(file):
        file.load()
        values = plain_numbers(file)
    else:
        file.load()
        values = np.array(rgb(file))  # a copy, because torch warns about read-only arrays
    return np.ascontiguousarray(oriented(values, orientation(file)))


def rgb(image: Image.Image) -> Image.Image:
    """Convert an image of 8 bits to RGB."""
    if image.mode == "P":
        image = image.convert("RGBA")  # a palette may have transparent entries
    return image if image.mode == "RGB" else image.convert("RGB")


def numbers(file: Image.Image) -> bool:
    """Whether an image has one value of more than 8 bits for each pixel."""
    return file.mode.startswith("I") or file.mode == "F" or stored_as(file) == (8, SIGNED)


def plain_numbers(file: Image.Image) -> np.ndarray:
    """The values of an image with one number for each pixel, ``[h, w]``."""
    other = {(32, UNSIGNED): np.uint32, (8, SIGNED): np.int8}.get(stored_as(file))
    values = np.asarray(file)
    return values if other is None else values.view(other)


def stored_as(file: Image.Image) -> tuple[int, int]:
    """Bits and number format of a grey TIFF; zeros for anything else.

    Pillow always reads 32 bits as signed and 8 bits as unsigned numbers.
    """
    tags: Any = getattr(file, "tag_v2", {})
    bits, kinds = tags.get(TIFF_BITS, ()), tags.get(TIFF_FORMAT, (UNSIGNED,))
    return (bits[0], kinds[0]) if len(bits) == 1 else (0, 0)


def wide(file: Image.Image) -> bool:
    """Whether an image has 16 bits a colour, of which Pillow would keep only 8."""
    if numbers(file):
        return False
    if file.format == "TIFF":
        tags: Any = file.tag_v2  # type: ignore[attr-defined]
        return bool(max(tags.get(TIFF_BITS, (1,))) > 8)
    if file.format == "JPEG2000":
        return jpeg2000_bits(file) > 8
    tiles: Any = getattr(file, "tile", None) or [("", None, 0, "")]
    decoder, _, _, stored = tiles[0]
    return (file.format == "PNG" and str(stored).endswith(";16B")) or decoder == "SGI16"


def jpeg2000_bits(file: Image.Image) -> int:
    """The number of bits of the first colour of a JPEG 2000 file, from its codestream header."""
    content = beginning(file)
    start = content.find(b"\xff\x4f\xff\x51")
    return 0 if start < 0 else (content[start + 42] & 0x7F) + 1


def beginning(file: Image.Image, length: int | None = 1 << 16) -> bytes:
    """The first bytes of an image file, or all of them."""
    stream: Any = file.fp  # type: ignore[attr-defined]
    position = stream.tell()
    stream.seek(0)
    content: bytes = stream.read(length)
    stream.seek(position)
    return content


def wide_values(file: Image.Image) -> np.ndarray:
    """The values of an image with 16 bits a colour, uint16 ``[h, w, 3]`` or ``[h, w, 4]``.

    They are oriented as stored. Only for TIFF does OpenCV apply the orientation, which is removed
    from ``file`` in this case.

    Raises:
        ImageError: OpenCV cannot read it.
    """
    import cv2

    values = None
    if file.format in WIDE and file.mode in ("L", "LA", "RGB", "RGBA", "RGBX"):
        content = np.frombuffer(beginning(file, None), np.uint8)
        values = cv2.imdecode(content, cv2.IMREAD_UNCHANGED)
    if values is None:
        name = getattr(file, "filename", "") or "image"
        raise ImageError(
            f"{name}: unreadable ({file.format} of {file.mode} with 16 bits a colour; save it as "
            "RGB in PNG or TIFF)"
        )
    if file.format == "TIFF":
        file.getexif().pop(ORIENTATION, None)
    if values.ndim == 2:
        values = np.stack([values] * 3, axis=-1)
    colours = values[..., 2::-1]
    return np.concatenate([colours, values[..., 3:]], axis=-1)


def tiff_values(source: Path | bytes) -> np.ndarray:
    """The first page of a TIFF whose dtype Pillow does not support, ``[h, w(, 3)]``.

    These are floats of 16 or 64 bits, integers of 64 bits, and colour images of floats.
    """
    import tifffile

    with tifffile.TiffFile(as_file(source)) as file:
        page: Any = file.pages[0]
        values = page.asarray()
        if values.ndim == 3 and page.axes.startswith("S"):
            values = np.moveaxis(values, 0, -1)
        tag = page.tags.get(int(ORIENTATION))
        if values.ndim not in (2, 3):
            raise ValueError(f"not an image: its axes are {page.axes}")
    if values.ndim == 3:
        values = values[..., :3] if values.shape[2] >= 3 else values[..., 0]
    return oriented(values, None if tag is None else int(tag.value))


def orientation(file: Image.Image) -> int | None:
    """The EXIF orientation of a decoded image, 1 to 8; None if unknown."""
    try:
        return int(file.getexif().get(ORIENTATION, 1))
    except Exception:  # damaged EXIF data does not affect the pixels
        return None


def header_orientation(path: Path, file: Image.Image) -> int | None:
    """As `orientation`, for a file that is not decoded."""
    if file.format != "PNG":
        return orientation(file)
    if "exif" not in file.info and late_exif(path):
        file.load()
        return orientation(file)
    try:
        # Pillow's own method would decode a PNG to find the data that comes after the pixels.
        return int(Image.Image.getexif(file).get(ORIENTATION, 1))
    except Exception:
        return None


def late_exif(path: Path) -> bool:
    """Whether the EXIF data of a PNG comes after its pixels."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - LATE))
        return b"eXIf" in file.read()


def oriented(pixels: np.ndarray, turn: int | None) -> np.ndarray:
    """Turn pixels ``[h, w]`` or ``[h, w, C]`` as an EXIF orientation requires.

    Example:
        >>> oriented(np.array([[1, 2], [3, 4]]), 6).tolist()  # the camera stood on its side
        [[3, 1], [4, 2]]
    """
    if turn in (2, 3, 7, 8):
        pixels = pixels[:, ::-1]
    if turn in (3, 4, 6, 7):
        pixels = pixels[::-1]
    return pixels.swapaxes(0, 1) if turn in (5, 6, 7, 8) else pixels


def values_and_alpha(file: Image.Image) -> tuple[np.ndarray, np.ndarray]:
    """The stored values ``[h, w(, C)]`` of a mask, and its alpha channel, empty without one."""
    none = np.empty(0)
    if file.mode == "P":
        index = np.asarray(file)
        colours = np.array(file.getpalette("RGB")).reshape(-1, 3)
        used = np.unique(index)
        black = used[~colours[np.minimum(used, len(colours) - 1)].any(axis=1)]
        # The first entry of the palette of a black-and-white picture may be white.
        return (~np.isin(index, black) if len(black) and 0 not in black else index), none
    if file.mode in ("LA", "La", "PA", "RGBA", "RGBa"):
        straight = np.asarray(file)
        return straight[..., :-1], straight[..., -1]
    if numbers(file) or file.mode in ("1", "L", "RGB"):
        return np.asarray(file), none
    return np.asarray(file.convert("RGB")), none


def is_lossy(file: Image.Image) -> bool:
    """Whether the decoded values of an image may differ from those that were saved."""
    if file.format == "WEBP":
        return b"VP8L" not in beginning(file)
    return file.format in LOSSY or file.info.get("compression") == "jpeg"


def anywhere(marked: np.ndarray) -> np.ndarray:
    """The pixels that are marked in any channel: bool ``[h, w]`` from bool ``[h, w(, C)]``."""
    return np.asarray(marked if marked.ndim == 2 else marked.any(axis=-1))
