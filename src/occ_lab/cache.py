"""List, check and clear the cached features: ``python -m occ_lab.cache --help``."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from omegaconf import OmegaConf
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import track
from rich.prompt import Confirm
from rich.table import Table

from occ_lab.config.composition import conf_dir
from occ_lab.features.cache import FeatureCache

MB = 1e6
# An entry, its lock, and what a killed process left of it.
OURS = re.compile(r"\.?[0-9a-f]{32}(\..+)?")


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line asks.

    Returns:
        The exit code: 0, or 1 where a check finds a problem or a question is answered by no.
    """
    parser = command_line()
    asked = parser.parse_args(arguments)
    cache = FeatureCache(asked.dir)
    console = Console(soft_wrap=True, highlight=False, markup=False)
    if asked.command == "list":
        return show(cache, console)
    if asked.command == "check":
        return check(cache, console)
    foreign = [path.name for path in cache.dir.glob("*") if not OURS.fullmatch(path.name)]
    if foreign:
        parser.error(f"{cache.dir} holds more than cached features ({foreign[0]}): not cleared")
    if not asked.yes and not sys.stdin.isatty():
        parser.error("clear: there is no terminal to ask on; add --yes if you are sure")
    return clear(cache, console, asked.yes)


def command_line() -> argparse.ArgumentParser:
    """What may be asked for."""
    where = argparse.ArgumentParser(add_help=False)
    where.add_argument(
        "--dir",
        default=default_dir(),
        metavar="DIR",
        help="the cache's folder; default: cache.dir of the configuration (%(default)s)",
    )
    parser = argparse.ArgumentParser(
        prog="python -m occ_lab.cache",
        description="Features of frozen backbones, kept on disk and shared by all runs.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, what in (
        ("list", "what is kept: backbone, images, size, last use"),
        ("check", "read every byte again; exit code 1 if anything has changed or is missing"),
        ("clear", "remove everything; runs extract their features anew"),
    ):
        command = commands.add_parser(name, parents=[where], help=what, description=what)
    command.add_argument("--yes", action="store_true", help="do not ask first")
    return parser


def default_dir() -> str:
    """The folder that runs use unless told otherwise."""
    return OmegaConf.load(Path(conf_dir()) / "base.yaml").cache.dir


def show(cache: FeatureCache, console: Console) -> int:
    """Print a table of all entries."""
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
    return 0


def check(cache: FeatureCache, console: Console) -> int:
    """Print each problem on a line with its path."""
    entries = list(cache.entries())
    problems = [
        problem
        for entry in track(entries, "reading", console=console, transient=True)
        for problem in entry.problems()
    ]
    for problem in problems:
        console.print(problem)
    console.print(f"{len(entries)} entries, {len(problems)} problems in {cache.dir}")
    return 1 if problems else 0


def clear(cache: FeatureCache, console: Console, sure: bool) -> int:
    """Remove everything, after a question unless the user is ``sure``; say what it freed."""
    before = size(cache.dir)
    question = f"Remove {before / MB:.1f} MB of features from {cache.dir}?"
    if not sure and not Confirm.ask(question, console=console, default=False):
        return 1
    cache.clear()
    console.print(f"freed {(before - size(cache.dir)) / MB:.1f} MB in {cache.dir}")
    return 0


def size(folder: Path) -> int:
    """Bytes of all files in a folder and below."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


if __name__ == "__main__":
    sys.exit(main())
