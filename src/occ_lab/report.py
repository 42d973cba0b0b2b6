"""One page, one table of all runs in some directories: ``python -m occ_lab.report --help``."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from rich.console import Console

from occ_lab.reporting.report.arguments import command_line
from occ_lab.reporting.report.write import write_report
from occ_lab.utils.errors import InputError


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the report that the command line asks for.

    Returns:
        The exit code: 1 where no run could be read or the user has something to correct.
    """
    asked = command_line().parse_args(arguments)
    console = Console(soft_wrap=True, highlight=False, markup=False)
    try:
        write_report(console=console, **vars(asked))
    except InputError as error:
        console.print(str(error))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
