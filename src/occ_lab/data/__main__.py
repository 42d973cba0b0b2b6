"""List, download and check benchmarks: ``python -m occ_lab.data --help``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from hydra.utils import get_class
from omegaconf import DictConfig, OmegaConf
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from occ_lab.config.composition import build, composed, conf_dir
from occ_lab.data.base import Benchmark
from occ_lab.utils.errors import InputError


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line asks.

    Returns:
        The exit code: 0, or 1 where the data has a problem or cannot be had.
    """
    asked = command_line().parse_args(arguments)
    console = Console(soft_wrap=True, highlight=False, markup=False)
    try:
        if asked.command == "list":
            return show(asked.data, console)
        if asked.command == "download":
            return download(asked.name, asked.root, console)
        return check(asked.name, asked.overrides, console)
    except InputError as error:
        console.print(str(error))
        return 1


def command_line() -> argparse.ArgumentParser:
    """What may be asked for."""
    parser = argparse.ArgumentParser(
        prog="python -m occ_lab.data",
        description="The benchmarks: what there is, and what is here.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    command = commands.add_parser(
        "list", help="tasks, size, licence, source, and whether it is here"
    )
    command.add_argument(
        "--data", metavar="DIR", help="look there instead of in data/, by the same folder names"
    )
    command = commands.add_parser(
        "download", help="get a benchmark, or the steps to get it where a download is not allowed"
    )
    command.add_argument("name", choices=names(), metavar="NAME", help="as in list")
    command.add_argument("--root", type=Path, metavar="DIR", help="where to; default: as in list")
    command = commands.add_parser(
        "check",
        help="counts, unreadable files, masks, duplicates of training and test images; "
        "exit code 1 if there is a problem",
    )
    command.add_argument("name", choices=names(), metavar="NAME", help="as in list")
    command.add_argument(
        "overrides", nargs="*", metavar="KEY=VALUE", help="such as dataset.root=DIR"
    )
    return parser


def names() -> list[str]:
    """Every benchmark that has a configuration."""
    return sorted(path.stem for path in (Path(conf_dir()) / "dataset").glob("*.yaml"))


def settings(name: str) -> DictConfig:
    """The benchmark's own file, without what all share."""
    loaded = OmegaConf.load(Path(conf_dir()) / "dataset" / f"{name}.yaml")
    assert isinstance(loaded, DictConfig)
    return loaded


def show(data: str | None, console: Console) -> int:
    """Print all benchmarks: a line of what it is, and one of where it comes from."""
    line = "{:<15}{:<11}{:<10}{}"
    console.print(line.format("dataset=", "tasks", "size", "here"))
    for name in names():
        cfg = settings(name)
        kind: type[Benchmark] = get_class(cfg._target_)
        root = str(cfg.get("root", ""))
        if data is not None:
            root = str(Path(data, *Path(root).parts[1:]))
        found = len(kind(name=name, root=root).available()) if "root" in cfg else 0
        here = f"{found} in {root}" if found else "no"
        console.print(line.format(name, kind.task_count, kind.size, here), style="bold")
        console.print(f"{'':<15}{kind.source}; licence: {kind.licence}")
    return 0


def download(name: str, root: Path | None, console: Console) -> int:
    """Get a benchmark into ``root``, or say how."""
    from occ_lab.data.download.archives import archives  # torchvision takes seconds to import
    from occ_lab.data.download.fetch import install

    cfg = settings(name)
    kind: type[Benchmark] = get_class(cfg._target_)
    folder = root or Path(cfg.get("root", "."))
    wanted = archives(name)
    if "root" in cfg and kind(name=name, root=folder).available():
        console.print(f"{name}: is in {folder.absolute()} already")
        return 0
    if not wanted:
        console.print(f"{name}: no direct download (licence: {kind.licence})")
        console.print(f"  1. get it:     {kind.source}")
        console.print(f"  2. unpack to:  {folder.absolute()}")
        console.print(f"  3. it must be: {kind.layout}")
        console.print(f"  4. look at it: python -m occ_lab.data check {name}")
        return 1
    console.print(f"{name}: {kind.size}, licence: {kind.licence}")
    install(wanted, folder)
    console.print(f"in {folder.absolute()}; look at it: python -m occ_lab.data check {name}")
    return 0


def check(name: str, overrides: list[str], console: Console) -> int:
    """Print counts against the published ones, then each problem on a line with its path."""
    from occ_lab.data.audit import counts, problems

    benchmark: Benchmark = build(
        composed("train", [f"dataset={name}", *overrides]).dataset, "dataset"
    )
    splits = {task: benchmark.published_split(task) for task in benchmark.tasks()}
    table = Table(box=SIMPLE_HEAD)
    for title in ("task", "train", "test: normal", "anomalous", "with mask", "published"):
        table.add_column(title, justify="left" if title in ("task", "published") else "right")
    for task, split in splits.items():
        found, expected = counts(split), benchmark.expected(task)
        masked = sum(item.mask is not None for item in split.test)
        told = "" if expected is None else "as here" if expected == found else str(tuple(expected))
        table.add_row(task, *map(str, found), str(masked), told)
    console.print(table, soft_wrap=False)
    number = 0
    for problem in problems(benchmark, splits):
        console.print(problem)
        number += 1
    console.print(f"{name} in {benchmark.root}: {number} problems")
    return 1 if number else 0


if __name__ == "__main__":
    sys.exit(main())
