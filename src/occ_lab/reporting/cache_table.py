"""The cache of features, listed, checked and cleared: what ``occ-lab cache`` does."""

from __future__ import annotations

import re
import sys
from datetime import datetime
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import track
from rich.prompt import Confirm
from rich.table import Table

from occ_lab.features.cache import FeatureCache
from occ_lab.utils.errors import InputError

MB = 1e6
# An entry, its lock, and what a killed process has left of it.
OURS = re.compile(r"\.?[0-9a-f]{32}(\..+)?")


def show(cache: FeatureCache, console: Console) -> None:
    """Print a table of all entries, the last used one first."""
    entries = sorted(cache.entries(), key=lambda entry: entry.used, reverse=True)
    table = Table(box=SIMPLE_HEAD)
    table.add_column("backbone")
    table.add_column("images", justify="right")
    table.add_column("MB", justify="right")
    table.add_column("last used", no_wrap=True)
    table.add_column("folder of the first image", overflow="fold")
    for entry in entries:
        images = entry.facts["images"]
        table.add_row(
            entry.facts["backbone"],
            str(len(images)),
            f"{entry.size / MB:.1f}",
            f"{datetime.fromtimestamp(entry.used):%Y-%m-%d %H:%M}",
            str(Path(images[0][0]).parent),
        )
    if entries:
        console.print(table, soft_wrap=False)
    total = sum(entry.size for entry in entries)
    console.print(f"{len(entries)} entries, {total / MB:.1f} MB in {cache.dir}")


def check(cache: FeatureCache, console: Console) -> bool:
    """Read every byte again and print each problem on a line with its path.

    Returns:
        Whether there is no problem.
    """
    entries = list(cache.entries())
    problems = [
        problem
        for entry in track(entries, "reading", console=console, transient=True)
        for problem in entry.problems()
    ]
    for problem in problems:
        console.print(problem)
    console.print(f"{len(entries)} entries, {len(problems)} problems in {cache.dir}")
    return not problems


def clear(cache: FeatureCache, console: Console, sure: bool) -> bool:
    """Remove everything, after a question unless the user is sure, and print how much it was.

    Returns:
        Whether it was removed.

    Raises:
        InputError: the folder holds other things, too, or there is no terminal to ask on.
    """
    foreign = [path.name for path in cache.dir.glob("*") if not OURS.fullmatch(path.name)]
    if foreign:
        raise InputError(f"{cache.dir} holds more than cached features ({foreign[0]}): not cleared")
    if not sure and not sys.stdin.isatty():
        raise InputError("clear: there is no terminal to ask on; add --yes if you are sure")
    before = size(cache.dir)
    question = f"Remove {before / MB:.1f} MB of features from {cache.dir}?"
    if not sure and not Confirm.ask(question, console=console, default=False):
        return False
    cache.clear()
    console.print(f"freed {(before - size(cache.dir)) / MB:.1f} MB in {cache.dir}")
    return True


def size(folder: Path) -> int:
    """Bytes of all files in a folder and below."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
