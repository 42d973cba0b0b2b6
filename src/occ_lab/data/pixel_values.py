"""The values of an opened image as they are stored, also where Pillow would reduce their bits."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image

from occ_lab.data.orientation import ORIENTATION
from occ_lab.utils.errors import ImageError

TIFF_BITS = 258  # the tag for the number of bits of each colour
TIFF_FORMAT = 339  # the tag for the number format
UNSIGNED, SIGNED = 1, 2
WIDE = {"PNG", "TIFF", "JPEG2000"}  # formats with 16 bits a colour, which Pillow reduces to 8


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
