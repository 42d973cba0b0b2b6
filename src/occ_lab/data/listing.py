"""What the command ``occ-lab data`` prints: lists, downloads and checks of benchmarks."""

from __future__ import annotations

import argparse
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from pkgutil import resolve_name

import yaml
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from occ_lab.data.base import Benchmark
from occ_lab.data.items import Split
from occ_lab.utils.files import typed_path


@dataclass(frozen=True)
class Listed:
    """A benchmark by the name of its configuration.

    Attributes:
        name: as in ``dataset=NAME``.
        benchmark: its class.
        root: where its data is looked for; None where the user names the folders of each product.
    """

    name: str
    benchmark: type[Benchmark]
    root: Path | None

    def found(self, root: Path) -> list[str]:
        """The tasks that are present under ``root``."""
        return self.benchmark(name=self.name, root=root).available()


def configured(folder: Path) -> dict[str, Listed]:
    """Every benchmark that has a configuration in ``folder``, by its name, sorted."""
    found = {}
    for path in sorted(folder.glob("*.yaml")):
        own = yaml.safe_load(path.read_text(encoding="utf-8"))
        root = Path(own["root"]) if "root" in own else None
        found[path.stem] = Listed(path.stem, resolve_name(own["_target_"]), root)
    return found


def command_line(names: Collection[str]) -> argparse.ArgumentParser:
    """The parser of the command's arguments.

    Args:
        names: of the benchmarks.
    """
    parser = argparse.ArgumentParser(
        prog="occ-lab data",
        description="List benchmarks, download them, and check the data that is present.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    command = commands.add_parser(
        "list", help="tasks, size, licence and source of each, and whether it is present"
    )
    command.add_argument(
        "--data",
        type=typed_path,
        metavar="DIR",
        help="look in DIR instead of data/, in folders of the same names",
    )
    command = commands.add_parser(
        "download", help="download a benchmark, or print the steps if that needs a login or a form"
    )
    command.add_argument("name", choices=names, metavar="NAME", help="a name that list prints")
    command.add_argument(
        "--root",
        type=typed_path,
        metavar="DIR",
        help="download to DIR instead of the folder in list",
    )
    command = commands.add_parser(
        "check",
        help="count images, and find unreadable files, wrong masks and test images that are "
        "training images too; exit code 1 if there is a problem",
    )
    command.add_argument("name", choices=names, metavar="NAME", help="a name that list prints")
    command.add_argument(
        "overrides", nargs="*", metavar="KEY=VALUE", help="such as dataset.root=DIR"
    )
    return parser


def show(benchmarks: Iterable[Listed], data: Path | None, console: Console) -> None:
    """Print two lines for each benchmark: what it is, and where it comes from."""
    line = "{:<15}{:<11}{:<10}{}"
    console.print(line.format("dataset=", "tasks", "size", "here"))
    for listed in benchmarks:
        kind, root = listed.benchmark, listed.root
        if root is not None and data is not None:
            root = data.joinpath(*root.parts[1:])
        found = len(listed.found(root)) if root is not None else 0
        here = f"{found} in {root}" if found else "no"
        console.print(line.format(listed.name, kind.task_count, kind.size, here), style="bold")
        console.print(f"{'':<15}{kind.source}; licence: {kind.licence}")


def download(listed: Listed, root: Path | None, console: Console) -> bool:
    """Download a benchmark into ``root``, or print how to get it.

    Returns:
        Whether the data is there now.

    Raises:
        InputError: the download failed.
    """
    from occ_lab.data.download.archives import archives  # torchvision takes seconds to import
    from occ_lab.data.download.fetch import install

    name, kind = listed.name, listed.benchmark
    folder = root or listed.root or Path()
    wanted = archives(name)
    if listed.root is not None and listed.found(folder):
        console.print(f"{name}: is in {folder.absolute()} already")
        return True
    if not wanted:
        console.print(f"{name}: no direct download (licence: {kind.licence})")
        console.print(f"  1. get it:     {kind.source}")
        console.print(f"  2. unpack to:  {folder.absolute()}")
        console.print(f"  3. it must be: {kind.layout}")
        console.print(f"  4. check it:   occ-lab data check {name}")
        return False
    console.print(f"{name}: {kind.size}, licence: {kind.licence}")
    install(wanted, folder)
    console.print(f"in {folder.absolute()}; check it: occ-lab data check {name}")
    return True


def check(benchmark: Benchmark, console: Console) -> bool:
    """Print counts beside the published ones, then each problem on a line with its path.

    Returns:
        Whether there is no problem.

    Raises:
        InputError: the data is absent.
    """
    from occ_lab.data.audit import problems
    from occ_lab.data.notes import notes

    splits = {task: benchmark.published_split(task) for task in benchmark.tasks()}
    console.print(counted(benchmark, splits), soft_wrap=False)
    for task, split in splits.items():
        for note in notes(benchmark, task, split, benchmark.value_range(task)):
            console.print(f"{task}: {note}")
    number = 0
    for problem in problems(benchmark, splits):
        console.print(problem)
        number += 1
    console.print(f"{benchmark.name} in {benchmark.root}: {number} problems")
    return number == 0


def counted(benchmark: Benchmark, splits: dict[str, Split]) -> Table:
    """A table of how many images each task has, and how many are published."""
    from occ_lab.data.audit import counts

    table = Table(box=SIMPLE_HEAD)
    for title in ("task", "train", "test: normal", "anomalous", "with mask", "published"):
        table.add_column(title, justify="left" if title in ("task", "published") else "right")
    for task, split in splits.items():
        found, expected = counts(split), benchmark.expected(task)
        masked = sum(item.mask is not None for item in split.test)
        published = "" if expected is None else str(tuple(expected))
        published = "as here" if expected == found else published
        table.add_row(task, *map(str, found), str(masked), published)
    return table
