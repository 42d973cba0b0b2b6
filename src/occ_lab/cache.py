"""List, check and clear the cached features: ``occ-lab cache --help``."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from occ_lab.config.parsers import parser_of


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line asks.

    Returns:
        The exit code: 1 where a check finds a problem or a question is answered by no.
    """
    parser = parser_of("cache")
    asked = parser.parse_args(arguments)
    from rich.console import Console  # what follows takes time to import

    from occ_lab.features.cache import FeatureCache
    from occ_lab.reporting.cache_table import check, clear, show
    from occ_lab.utils.errors import InputError

    cache = FeatureCache(asked.dir)
    console = Console(soft_wrap=True, highlight=False, markup=False)
    if asked.command == "list":
        show(cache, console)
        return 0
    if asked.command == "check":
        return 0 if check(cache, console) else 1
    try:
        return 0 if clear(cache, console, asked.yes) else 1
    except InputError as error:
        parser.error(str(error))


if __name__ == "__main__":
    sys.exit(main())
