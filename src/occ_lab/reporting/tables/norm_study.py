"""The final table of a norm study."""

from __future__ import annotations

from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from occ_lab.reporting.norm_plots import time_label
from occ_lab.reporting.tables.results import percent


def study_table(title: str, tasks: dict[str, dict[str, Any]]) -> Table:
    """One row per task and time: image AUROC at several norms, and the upper end of the domain."""
    caption = (
        "AUROC at the best norm, at norm 1 and at the end; end: upper end of the feasible domain, "
        "estimated without labels; measured: where the image AUROC has fallen by 1 point"
    )
    table = Table(
        title=title,
        title_justify="left",
        caption=caption,
        caption_justify="left",
        box=SIMPLE_HEAD,
    )
    table.add_column("task", no_wrap=True)
    headings = ("t", "best", "AUROC", "at 1", "at end", "end", "measured")
    for heading in headings:
        table.add_column(heading, justify="right")
    for name, figures in tasks.items():
        for row, grid in enumerate(figures["times"]):
            fit = grid["agreement"]
            measured = fit["measured_end"]
            table.add_row(
                "" if row else name,
                time_label(grid["time"]).removeprefix("t = "),
                f"{fit['best_norm']:g}",
                percent(fit["auroc_at_best"]),
                percent(fit["auroc_at_1"]),
                percent(fit["auroc_at_end"]),
                f"{grid['domain']['end']:.3g}",
                "beyond" if measured is None else f"{measured:.3g}",
            )
        table.add_section()
    return table
