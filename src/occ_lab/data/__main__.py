"""List, download and check benchmarks: ``occ-lab data --help``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from occ_lab.config.parsers import parser_of
from occ_lab.data.listing import check, configured, download, show
from occ_lab.utils.conf import conf_dir
from occ_lab.utils.errors import InputError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the exit code is 1 if the data has a problem or cannot be downloaded."""
    asked = parser_of("data").parse_args(arguments)
    known = configured(Path(conf_dir(), "dataset"))
    console = Console(soft_wrap=True, highlight=False, markup=False)
    done = True
    try:
        if asked.command == "list":
            show(known.values(), asked.data, console)
        elif asked.command == "download":
            done = download(known[asked.name], asked.root, console)
        else:
            done = checked(asked.name, asked.overrides, console)
    except InputError as error:
        from occ_lab.config.errors import message

        console.print(message(error))
        done = False
    return 0 if done else 1


def checked(name: str, overrides: Sequence[str], console: Console) -> bool:
    """Check a benchmark as its configuration and the overrides describe it."""
    from hydra.errors import HydraException  # imports that take half a second

    from occ_lab.config.composition import benchmark_of, composed

    try:
        cfg = composed("train", [f"dataset={name}", *overrides])
        return check(benchmark_of(cfg), console)
    except HydraException as error:
        console.print(str(error))
        return False


if __name__ == "__main__":
    sys.exit(main())
