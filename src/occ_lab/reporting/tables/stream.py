"""The final table of a stream."""

from __future__ import annotations

from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

COUNTS = ("images", "rejected", "learned")
PARTS = ("backbone", "score", "update", "re-solve")


def stream_table(streams: dict[str, dict[str, Any]]) -> Table:
    """One row for each stream: numbers of images, the mean milliseconds of each part, solves."""
    title = "streams (times in ms)"
    # narrow gaps, so that all columns fit into 80 characters
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("stream", no_wrap=True)
    for column in (*COUNTS, *PARTS, "solves"):
        table.add_column(column, justify="right")
    for name, figures in streams.items():
        spent = figures["milliseconds"]
        table.add_row(
            name,
            *(str(figures[count]) for count in COUNTS),
            *(f"{spent[part]:.2f}" if part in spent else "–" for part in PARTS),
            str(figures["re_solves"]),
        )
    return table
