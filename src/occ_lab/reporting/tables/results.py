"""The closing table of a run."""

from __future__ import annotations

from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from occ_lab.reporting.record import METRICS, mean_metrics

TITLES = dict(
    zip(METRICS, ("image AUROC", "image AP", "image F1", "pixel AUROC", "pixel AUPRO"), strict=True)
)


def results_table(title: str, tasks: dict[str, dict[str, Any]]) -> Table:
    """One row for each task and the mean: metrics in per cent, time in seconds."""
    shown = [metric for metric in METRICS if any(metric in figures for figures in tasks.values())]
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, show_footer=len(tasks) > 1)
    mean = mean_metrics(tasks)
    table.add_column("task", footer="mean", no_wrap=True)
    table.add_column("train", justify="right")
    table.add_column("test", justify="right")
    for metric in shown:
        table.add_column(TITLES[metric], justify="right", footer=percent(mean.get(metric)))
    table.add_column("time (s)", justify="right", footer=f"{sum(map(seconds, tasks.values())):.1f}")
    for name, figures in tasks.items():
        table.add_row(
            name,
            str(figures["n_train"]),
            str(figures["n_test"]),
            *[percent(figures.get(metric)) for metric in shown],
            f"{seconds(figures):.1f}",
        )
    return table


def calibration_table(tasks: dict[str, dict[str, Any]]) -> Table | None:
    """What the thresholds do on the test images of each task; None where none was calibrated."""
    found = {name: each["calibration"] for name, each in tasks.items() if "calibration" in each}
    if not found:
        return None
    title = "at the calibrated threshold (per cent)"
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD)
    table.add_column("task", no_wrap=True)
    for column in ("calibrated on", "overkill asked", "overkill observed", "defects escaped"):
        table.add_column(column, justify="right")
    for name, figures in found.items():
        rates = [percent(figures[rate]) for rate in ("asked", "overkill", "escape")]
        table.add_row(name, str(figures["images"]), *rates)
    return table


def seconds(figures: dict[str, Any]) -> float:
    """The time of a whole task."""
    return float(sum(figures["seconds"].values()))


def percent(fraction: float | None) -> str:
    """A fraction in per cent with one digit, or a dash where there is none.

    Example:
        >>> percent(0.1234), percent(None)
        ('12.3', '–')
    """
    return "–" if fraction is None else f"{100 * fraction:.1f}"
