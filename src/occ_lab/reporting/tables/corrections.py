"""The closing table of a correction."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.table import Table


def corrections_table(lines: Sequence[tuple[str, str, str]]) -> Table:
    """A table of what is compared, its value before and its value after."""
    table = Table(box=box.SIMPLE)
    table.add_column("")
    for title in ("before", "after"):
        table.add_column(title, justify="right")
    for line in lines:
        table.add_row(*line)
    return table
