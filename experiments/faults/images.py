"""Damaged image files: each must be read, or named by the check and the read, in limited time."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from experiments.faults.bounded import counted, tried
from experiments.faults.crashes import Counted
from occ_lab.data.images import read_pixels
from occ_lab.data.validation import image_size
from occ_lab.utils.errors import ImageError

FORMATS = {  # with the modes that are written
    "PNG": ("RGB", "L", "P", "I;16"),
    "JPEG": ("RGB", "L"),
    "BMP": ("RGB", "L"),
    "TIFF": ("RGB", "L", "I;16"),
    "WEBP": ("RGB",),
    "GIF": ("P",),
}
SIDE = 40
READ, NAMED = "read", "named by the check and by the read"
EARLY, LATE = "named by the check alone", "named by the read alone"
OUTCOMES = (READ, NAMED, EARLY, LATE)


def originals() -> list[tuple[str, bytes]]:
    """Sound files: the suffix and content of each."""
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 256, (5, 5, 3), dtype=np.uint8))
    picture = coarse.resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    found = []
    for kind, modes in FORMATS.items():
        for mode in modes:
            if mode == "I;16":
                image = Image.fromarray(np.asarray(picture.convert("L")).astype(np.uint16) * 257)
            else:
                image = picture.convert(mode)
            buffer = io.BytesIO()
            image.save(buffer, kind)
            found.append((f".{kind.lower()}", buffer.getvalue()))
    return found


def damaged(count: int, seed: int = 0) -> Iterator[tuple[str, bytes]]:
    """Damaged files: a name that describes the damage, and the content of each."""
    sound = originals()
    rng = np.random.default_rng(seed)
    for number in range(count):
        suffix, content = sound[number % len(sound)]
        how = ("flips", "cut", "spliced", "header", "shifted")[int(rng.integers(5))]
        data = bytearray(content)
        place = int(rng.integers(len(data)))
        if how == "flips":
            for each in rng.integers(0, len(data), int(rng.integers(1, 20))):
                data[each] ^= int(rng.integers(1, 256))
        elif how == "cut":
            del data[place:]
        elif how == "spliced":
            other = sound[int(rng.integers(len(sound)))][1]
            length = int(rng.integers(4, 64))
            data[:length] = other[:length]
        elif how == "header":  # arbitrary sizes, counts and offsets
            start = int(rng.integers(4, 64))
            data[start : start + 4] = rng.bytes(4)
        else:
            data[place : place + int(rng.integers(0, 9))] = rng.bytes(int(rng.integers(0, 9)))
        yield f"{number:04d}_{how}{suffix}", bytes(data)


def outcome(path: Path) -> str:
    """The outcome for a file: one of the outcomes above, or a description of the fault."""
    checked = read = ""
    try:
        image_size(path)
    except ImageError as error:
        checked = str(error)
    try:
        read_pixels(path)
    except ImageError as error:
        read = str(error)
    for said in (checked, read):
        if said and not said.startswith(str(path)):
            return f"the message does not name the file: {said[:200]}"
    if bool(checked) == bool(read):
        return NAMED if read else READ
    return EARLY if checked else LATE


def fuzz(count: int, base: Path, seed: int = 0) -> tuple[Counted, dict[str, int]]:
    """Try damaged files.

    Args:
        count: the number of files.
        base: a folder for them.
        seed: determines how they are damaged.

    Returns:
        The counts, and the number of files with each outcome.
    """
    base.mkdir(parents=True)
    paths = []
    for name, content in damaged(count, seed):
        paths.append(base / name)
        paths[-1].write_bytes(content)
    return counted(tried(outcome, paths, base / "results"), OUTCOMES)
