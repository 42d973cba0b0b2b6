"""The command line of ``occ-lab report``."""

from __future__ import annotations

import argparse

from occ_lab.utils.files import typed_path


def command_line() -> argparse.ArgumentParser:
    """The parser, whose names are those of the arguments of `write_report`."""
    parser = argparse.ArgumentParser(
        prog="occ-lab report",
        description="Write report.html, report.csv and report.md over all runs in the directories.",
    )
    parser.add_argument(
        "directories", nargs="+", type=typed_path, metavar="DIR", help="holds runs, at any depth"
    )
    parser.add_argument(
        "--out",
        type=typed_path,
        metavar="DIR",
        help="where the report goes; default: the first DIR",
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
        type=fraction,
        default=[0.01, 0.05],
        metavar="RATE",
        help="fractions of the normal test images that may be called anomalous; default: 0.01 0.05",
    )
    parser.add_argument(
        "--resamples",
        type=at_least_1,
        default=argparse.SUPPRESS,  # that of `write_report`, whose module takes seconds to import
        metavar="N",
        help="of the bootstrap; default: 2000",
    )
    parser.add_argument(
        "--seed", type=at_least_0, default=0, help="of the bootstrap; default: %(default)s"
    )
    parser.add_argument(
        "--pictures",
        type=at_least_0,
        default=4,
        metavar="N",
        help="how many of the worst misses of each task are shown; default: %(default)s",
    )
    return parser


def fraction(text: str) -> float:
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
