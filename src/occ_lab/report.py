"""One page, one table of all runs in some directories: ``python -m occ_lab.report --help``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from rich.console import Console

from occ_lab.metrics.bootstrap import RESAMPLES
from occ_lab.reporting.record import to_csv
from occ_lab.reporting.report.compare import all_comparisons, choose_baselines
from occ_lab.reporting.report.gather import gather
from occ_lab.reporting.report.groups import grouped
from occ_lab.reporting.report.page import Report, page, require_extra
from occ_lab.reporting.report.tables import csv_rows, markdown, terminal_table
from occ_lab.utils.errors import InputError
from occ_lab.utils.files import write_whole


def main(arguments: Sequence[str] | None = None) -> int:
    """Gather, compare and write what the command line asks for.

    Returns:
        The exit code: 0, or 1 where nothing could be read or the user has something to mend.
    """
    asked = command_line().parse_args(arguments)
    console = Console(soft_wrap=True, highlight=False, markup=False)
    try:
        return report(asked, console)
    except InputError as error:
        console.print(str(error))
        return 1


def command_line() -> argparse.ArgumentParser:
    """What may be asked for."""
    parser = argparse.ArgumentParser(
        prog="python -m occ_lab.report",
        description="All runs below the directories in report.html, report.csv and report.md.",
    )
    parser.add_argument(
        "directories", nargs="+", type=Path, metavar="DIR", help="holds runs, at any depth"
    )
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="where the report goes; default: the first DIR"
    )
    parser.add_argument(
        "--baseline",
        metavar="TEXT",
        help="what all groups are compared with: a group's name, a run directory, or a part of "
        "one; default: the first-ranked of each dataset",
    )
    parser.add_argument(
        "--overkill",
        nargs="+",
        type=share,
        default=[0.01, 0.05],
        metavar="RATE",
        help="shares of normal test images that may be called abnormal; default: 0.01 0.05",
    )
    parser.add_argument(
        "--resamples",
        type=at_least_1,
        default=RESAMPLES,
        metavar="N",
        help="of the bootstrap; default: %(default)s",
    )
    parser.add_argument(
        "--seed", type=at_least_0, default=0, help="of the bootstrap; default: %(default)s"
    )
    parser.add_argument(
        "--pictures",
        type=at_least_0,
        default=4,
        metavar="N",
        help="of the worst misses, shown of each task; default: %(default)s",
    )
    return parser


def share(text: str) -> float:
    """A number in 0..1."""
    number = float(text)
    if not 0 <= number <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not in 0..1")
    return number


def at_least_0(text: str) -> int:
    """An integer ≥ 0."""
    if int(text) < 0:
        raise argparse.ArgumentTypeError(f"{text} is below 0")
    return int(text)


def at_least_1(text: str) -> int:
    """An integer ≥ 1."""
    if int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is below 1")
    return int(text)


def report(asked: argparse.Namespace, console: Console) -> int:
    """Write the three files and print the ranking.

    Raises:
        InputError: plotly is not installed, a directory does not exist, no group is the baseline.
    """
    require_extra()
    gathered = gather(asked.directories)
    for each in gathered.left_out:
        console.print(f"left out: {each.directory}: {each.reason}")
    if not gathered.runs:
        console.print(f"no run could be read in {', '.join(map(str, asked.directories))}")
        return 1
    found = grouped(gathered.runs)
    baselines = choose_baselines(found, asked.baseline)
    made = Report(
        sources=asked.directories,
        when=datetime.now(),
        found=found,
        left_out=gathered.left_out,
        baselines=baselines,
        comparisons=all_comparisons(found, baselines, asked.resamples, asked.seed),
        resamples=asked.resamples,
        rates=asked.overkill,
        pictures=asked.pictures,
    )
    out = asked.out or asked.directories[0]
    write_whole(out / "report.csv", to_csv(csv_rows(found)))
    write_whole(out / "report.md", markdown(made.facts, found, made.comparisons))
    write_whole(out / "report.html", page(made))
    console.print(terminal_table(made.comparisons, console.width), soft_wrap=False)
    for suffix in ("html", "csv", "md"):
        console.print(str(out / f"report.{suffix}"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
