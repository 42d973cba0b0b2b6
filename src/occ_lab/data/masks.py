"""Assigns masks to images by their names."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from occ_lab.utils.errors import InputError


class Below(NamedTuple):
    """A folder and files below it.

    Attributes:
        path: the folder.
        files: files in it and in its subfolders.
    """

    path: Path
    files: Sequence[Path]


def masks_of(images: Below, masks: Below, others: Below | None = None) -> dict[Path, Path]:
    """The mask of each image that has one.

    A mask lies in the same subfolder as its image and has its name, with or without ``_mask``. If
    If images differ only in their suffix, a mask has the suffix of its image or its whole name:
    ``0.png`` has ``0.png``, ``0_mask.png`` or ``0.png_mask.tif``.

    Args:
        images: anomalous images.
        masks: their masks.
        others: normal images; their masks are ignored.

    Raises:
        InputError: a mask belongs to no image or to several, or an image has several masks.

    Example:
        >>> bad, masks = Path("bad"), Path("masks")
        >>> found = masks_of(Below(bad, [bad / "1.jpg"]), Below(masks, [masks / "1_mask.png"]))
        >>> [mask.name for mask in found.values()]
        ['1_mask.png']
    """
    found, left = matched(images, masks)
    if left and others is not None:
        _, left = matched(others, Below(masks.path, left))
    if left:
        without = [image for image in images.files if image not in found]
        image = f"{without[0]} has no mask" if without else "all anomalous images have other masks"
        raise InputError(
            f"masks: {len(left)} of {len(masks.files)} belong to no image: {left[0]} does not, and "
            f"{image}. A mask lies in the same subfolder as its image and has the same name, with "
            "or without _mask",
            part="dataset",
        )
    return found


def matched(images: Below, masks: Below) -> tuple[dict[Path, Path], list[Path]]:
    """The masks of images, and the masks left over; the most specific names are matched first.

    Raises:
        InputError: a mask fits several images, or several masks fit an image.
    """
    found: dict[Path, Path] = {}
    left = list(masks.files)
    for certainty in range(4):
        named = defaultdict(list)
        for mask in left:
            name = mask.name if certainty in (1, 2) else mask.stem
            named[mask.parent.relative_to(masks.path), name].append(mask)
        pairs = [
            (image, mask)
            for image in images.files
            if image not in found
            for name in mask_names(image)[certainty]
            for mask in named.get((image.parent.relative_to(images.path), name), [])
        ]
        check_single(pairs)
        found.update(pairs)
        used = set(found.values())
        left = [mask for mask in left if mask not in used]
    return found, left


def mask_names(image: Path) -> list[list[str]]:
    """The possible names of an image's mask, the most specific first; the middle has its suffix."""
    name, stem = image.name, image.stem
    return [[name, f"{name}_mask"], [name], [f"{stem}_mask{image.suffix}"], [stem, f"{stem}_mask"]]


def check_single(pairs: Sequence[tuple[Path, Path]]) -> None:
    """Raise an error unless every image has one mask and every mask one image.

    Raises:
        InputError: an image or a mask occurs twice.
    """
    for own, other in ((0, 1), (1, 0)):
        seen: dict[Path, Path] = {}
        for pair in pairs:
            first = seen.setdefault(pair[own], pair[other])
            if first != pair[other]:
                raise InputError(
                    f"masks: {pair[own]} fits both {first} and {pair[other]}; give each mask the "
                    "whole name of its image, such as 0.png_mask.png for 0.png",
                    part="dataset",
                )
