"""The final table of two-stage one-class classification."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from occ_lab.reporting.record import mean_metrics
from occ_lab.reporting.tables.results import TITLES, brief, percent, seconds


def stages_table(
    title: str,
    runs: dict[str, dict[str, dict[str, Any]]],
    published: Mapping[str, Any] | None = None,
) -> Table:
    """One row for each density: means over tasks in per cent.

    Args:
        title: the title of the table.
        runs: for each density, the metrics of each task.
        published: metrics in 0..1 of the mean, and ``density``, the name of the row that they
            belong to; they stand in a column beside ours.
    """
    known = published or {}
    means = {name: mean_metrics(tasks) for name, tasks in runs.items()}
    shown = brief({metric for mean in means.values() for metric in mean})
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD)
    table.add_column("density", no_wrap=True)
    for metric in shown:
        table.add_column(TITLES[metric], justify="right")
        if known.get(metric) is not None:
            table.add_column("published", justify="right")
    table.add_column("time (s)", justify="right")
    for name in means:
        spent = sum(map(seconds, runs[name].values()))
        cells = []
        for metric in shown:
            cells.append(percent(means[name].get(metric)))
            if known.get(metric) is not None:
                cells.append(percent(known[metric] if name == known.get("density") else None))
        table.add_row(name, *cells, f"{spent:.1f}")
    return table
