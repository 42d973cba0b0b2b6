"""One page, one table of all runs in some directories: ``occ-lab report --help``."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from occ_lab.config.parsers import parser_of


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the report that the command line asks for.

    Returns:
        The exit code: 1 where no run could be read or the user has something to correct.
    """
    asked = parser_of("report").parse_args(arguments)
    from rich.console import Console  # what follows takes seconds to import

    from occ_lab.reporting.report.write import write_report
    from occ_lab.utils.errors import InputError

    console = Console(soft_wrap=True, highlight=False, markup=False)
    try:
        write_report(console=console, **vars(asked))
    except InputError as error:
        console.print(str(error))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
