"""List, download and check benchmarks: ``python -m occ_lab.data --help``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from hydra.errors import HydraException
from rich.console import Console

from occ_lab.config.composition import benchmark_of, composed, conf_dir
from occ_lab.config.errors import message
from occ_lab.data.listing import check, command_line, configured, download, show
from occ_lab.utils.errors import InputError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the exit code is 1 if the data has a problem or cannot be downloaded."""
    known = configured(Path(conf_dir(), "dataset"))
    console = Console(soft_wrap=True, highlight=False, markup=False)
    asked = command_line(known).parse_args(arguments)
    done = True
    try:
        if asked.command == "list":
            show(known.values(), asked.data, console)
        elif asked.command == "download":
            done = download(known[asked.name], asked.root, console)
        else:
            cfg = composed("train", [f"dataset={asked.name}", *asked.overrides])
            done = check(benchmark_of(cfg), console)
    except (InputError, HydraException) as error:
        console.print(message(error) if isinstance(error, InputError) else str(error))
        done = False
    return 0 if done else 1


if __name__ == "__main__":
    sys.exit(main())
