"""Damaged image files: each is read or named, by the check and by the read, in bounded time."""

from __future__ import annotations

import io
import json
import os
import resource
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from experiments.faults.crashes import Counted, started
from occ_lab.data.images import read_pixels
from occ_lab.data.validation import image_size
from occ_lab.utils.errors import ImageError

FORMATS = {  # and the modes that are written
    "PNG": ("RGB", "L", "P", "I;16"),
    "JPEG": ("RGB", "L"),
    "BMP": ("RGB", "L"),
    "TIFF": ("RGB", "L", "I;16"),
    "WEBP": ("RGB",),
    "GIF": ("P",),
}
SIDE = 40
SECONDS = 10.0  # a file may take
PATIENCE = 60  # seconds without any result: it hangs
MEMORY = 3 * 2**30  # bytes beyond what the process has
READ, NAMED = "read", "named by the check and by the read"
EARLY, LATE = "named by the check alone", "named by the read alone"
OUTCOMES = (READ, NAMED, EARLY, LATE)


def originals() -> list[tuple[str, bytes]]:
    """Sound files: a suffix and the content of each."""
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
    """Damaged files: a name, which says how, and the content of each."""
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
        elif how == "header":  # sizes, counts and offsets of any value
            start = int(rng.integers(4, 64))
            data[start : start + 4] = rng.bytes(4)
        else:
            data[place : place + int(rng.integers(0, 9))] = rng.bytes(int(rng.integers(0, 9)))
        yield f"{number:04d}_{how}{suffix}", bytes(data)


def outcome(path: Path) -> str:
    """How a file is dealt with; text that is none of the outcomes is a fault."""
    begun = time.perf_counter()
    checked = read = ""
    try:
        image_size(path)
    except ImageError as error:
        checked = str(error)
    try:
        read_pixels(path)
    except ImageError as error:
        read = str(error)
    seconds = time.perf_counter() - begun
    if seconds > SECONDS:
        return f"took {seconds:.0f} s"
    for said in (checked, read):
        if said and not said.startswith(str(path)):
            return f"the message does not name the file: {said[:200]}"
    return OUTCOMES[2 * (bool(checked) != bool(read)) + (bool(read))]


def try_files(folder: Path, names: list[str], results: Path) -> None:
    """Note what comes of each file, in a process whose memory is bounded."""
    pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[0]
    own = int(pages) * resource.getpagesize()
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # libraries warn of what is damaged
    resource.setrlimit(resource.RLIMIT_AS, (own + MEMORY, own + MEMORY))
    with results.open("a", encoding="utf-8", buffering=1) as file:
        for name in names:
            try:
                found = outcome(folder / name)
            except BaseException as error:
                found = f"{type(error).__name__}: {str(error)[:200]}"
            file.write(json.dumps([name, found]) + "\n")
    os._exit(0)


def fuzz(count: int, base: Path, seed: int = 0) -> tuple[Counted, dict[str, int]]:
    """Try damaged files.

    Args:
        count: how many.
        base: a folder for them.
        seed: decides how they are damaged.

    Returns:
        What came of them, and how many had each outcome.
    """
    folder, results = base / "files", base / "results"
    folder.mkdir(parents=True)
    for name, content in damaged(count, seed):
        (folder / name).write_bytes(content)
    names = sorted(path.name for path in folder.iterdir())
    found: dict[str, str] = {}
    while len(found) < count:
        left = [name for name in names if name not in found]
        process = started(try_files, folder, left, results)
        done = len(found)
        while process.exitcode is None:
            process.join(PATIENCE)
            found = read_results(results)
            if process.exitcode is None and len(found) == done:
                process.kill()
                process.join()
            done = len(found)
        found = read_results(results)
        left = [name for name in names if name not in found]
        if left:  # the first of these was at work
            write_result(results, left[0], f"the process hung or died ({process.exitcode})")
            found = read_results(results)
    counted = Counted(count)
    outcomes = dict.fromkeys(OUTCOMES, 0)
    for name, each in sorted(found.items()):
        if each in outcomes:
            outcomes[each] += 1
        else:
            counted.lost.append(f"{name}: {each}")
    return counted, outcomes


def write_result(results: Path, name: str, found: str) -> None:
    """Note what came of a file."""
    with results.open("a", encoding="utf-8") as file:
        file.write(json.dumps([name, found]) + "\n")


def read_results(results: Path) -> dict[str, str]:
    """What came of each file so far."""
    lines: list[Any] = []
    if results.is_file():
        lines = [json.loads(line) for line in results.read_text(encoding="utf-8").splitlines()]
    return dict(lines)
