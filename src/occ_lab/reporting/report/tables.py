"""The tables of a report for CSV, Markdown and the terminal."""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence
from statistics import fmean
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from occ_lab.metrics.bootstrap import Difference
from occ_lab.reporting.markdown import table
from occ_lab.reporting.record import METRICS
from occ_lab.reporting.report.compare import Comparison
from occ_lab.reporting.report.gather import Run
from occ_lab.reporting.report.groups import Group, Grouped, Spread, value_text
from occ_lab.reporting.tables.results import TITLES, brief

STAGES = ("features", "fit", "test")
WIDE = 140
DIFFERENCE = "to the baseline [95 %]"
UNBROKEN = (*TITLES.values(), DIFFERENCE)


def run_row(run: Run, keys: Sequence[str]) -> dict[str, Any]:
    """A row of the table of runs: metrics in 0..1 as means over its tasks, None if missing.

    Args:
        run: the run.
        keys: the configuration keys that have a column.
    """
    tasks = run.tasks.values()
    found = {metric: [task.metric(metric) for task in tasks] for metric in METRICS}
    means = {
        metric: fmean(present) if (present := [v for v in values if v is not None]) else None
        for metric, values in found.items()
    }
    stages = [stage for task in tasks for stage in task.figures["seconds"].items()]
    memory = [task.figures["peak_memory_mb"] for task in tasks]
    return {
        **{key: run.header[key] for key in ("dataset", "loss", "backbone")},
        **{key: value_text(run.config[key]) if key in run.config else None for key in keys},
        "seed": run.seed,
        "tasks": len(run.tasks),
        **means,
        **{f"seconds_{name}": sum(s for stage, s in stages if stage == name) for name in STAGES},
        "seconds": sum(s for _, s in stages),
        "peak_memory_mb": max((value for value in memory if value is not None), default=None),
        "version": run.header["version"],
        "directory": str(run.directory),
        "command": command(run),
    }


def command(run: Run) -> str | None:
    """The command of a run, quoted for a shell; None if it is not recorded."""
    if run.overrides is None:
        return None
    return shlex.join(["python", "-m", "occ_lab.train", *run.overrides])


def csv_rows(found: Grouped) -> list[dict[str, Any]]:
    """One row for each run, in the order of the ranking, with the AUROC of each task at the end."""
    runs = [(group, run) for group in found.groups for run in group.runs]
    names = dict.fromkeys(name for _, run in runs for name in run.tasks)
    return [
        {
            "group": group.label,
            **run_row(run, found.keys),
            **{
                f"image_auroc[{name}]": run.tasks[name].metric("image_auroc")
                if name in run.tasks
                else None
                for name in names
            },
        }
        for group, run in runs
    ]


def shown_metrics(groups: Sequence[Group]) -> list[str]:
    """The metrics that any group has."""
    return [metric for metric in METRICS if any(group.overall(metric) for group in groups)]


def brief_metrics(groups: Sequence[Group]) -> list[str]:
    """As `shown_metrics`, without those that are for a closer look."""
    return brief(shown_metrics(groups))


def shown_columns(found: Grouped, rows: Sequence[dict[str, Any]]) -> dict[str, str]:
    """The columns of the table of runs with their titles, without those equal in all runs."""
    differing = [
        key for key in ("dataset", "backbone", "version") if len({row[key] for row in rows}) > 1
    ]
    titles = {
        **{key: key for key in ("dataset", "loss", "backbone")},
        **{key: key for key in found.keys},
        "seed": "seed",
        **{metric: TITLES[metric] for metric in shown_metrics(found.groups)},
        **{f"seconds_{name}": f"{name} (s)" for name in STAGES},
        "seconds": "all (s)",
        "peak_memory_mb": "peak MB",
        "version": "version",
        "directory": "run directory",
        "command": "command",
    }
    return {
        key: title
        for key, title in titles.items()
        if key in differing or key not in ("dataset", "backbone", "version")
    }


def cell_text(key: str, value: Any) -> str:
    """The text of a value in the table of runs."""
    if value is None:
        return "–"
    if key in METRICS:
        return f"{100 * value:.1f}"
    if key.startswith("seconds"):
        return f"{value:.1f}"
    return f"{value:.0f}" if key == "peak_memory_mb" else str(value)


def spread_text(spread: Spread | None, digits: int = 1) -> str:
    """Mean ± standard deviation in per cent; only the mean for one seed; a dash if missing."""
    if spread is None:
        return "–"
    mean = f"{100 * spread.mean:.{digits}f}"
    return mean if spread.deviation is None else f"{mean} ± {100 * spread.deviation:.{digits}f}"


def difference_text(difference: Difference) -> str:
    """The difference and its interval in points."""
    return f"{points(difference.value)} {interval_text(difference)}"


def interval_text(difference: Difference) -> str:
    """The interval in points."""
    return f"[{points(difference.low)}, {points(difference.high)}]"


def points(value: float) -> str:
    """A difference in percentage points with its sign; 0.0 has none."""
    text = f"{100 * value:+.1f}"
    return "0.0" if text in ("+0.0", "-0.0") else text.replace("-", "−")


def p_text(value: float) -> str:
    """A p-value; empty if it is not known.

    Example:
        >>> p_text(0.0421), p_text(0.00004), p_text(math.nan)
        ('0.042', '< 0.001', '')
    """
    if math.isnan(value):
        return ""
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def verdict(comparison: Comparison) -> str:
    """The result of a comparison in words."""
    if comparison.group is comparison.baseline:
        return "baseline"
    if comparison.difference is None:
        return "no test images in common"
    return comparison.difference.words


def group_cells(comparison: Comparison, metrics: Sequence[str], p_values: bool = True) -> list[str]:
    """A row of the ranking, with or without its p-value."""
    group, difference = comparison.group, comparison.difference
    return [
        str(len(group.seeds)),
        *(spread_text(group.overall(metric)) for metric in metrics),
        difference_text(difference) if difference else "",
        *([p_text(comparison.p_value)] if p_values else []),
        verdict(comparison),
    ]


def group_titles(metrics: Sequence[str], p_values: bool = True) -> list[str]:
    """The column titles of `group_cells`."""
    p = ["p"] if p_values else []
    return ["seeds", *(TITLES[metric] for metric in metrics), DIFFERENCE, *p, ""]


def terminal_table(comparisons: Sequence[Comparison], width: int) -> Table:
    """The ranked groups in per cent; more metrics, and p-values, in at least `WIDE` columns."""
    metrics, wide = brief_metrics([each.group for each in comparisons]), width >= WIDE
    metrics = metrics if wide else metrics[:1]
    table = Table(title="per cent, best first", title_justify="left", box=SIMPLE_HEAD)
    table.add_column("group", overflow="fold", min_width=14)
    for title in group_titles(metrics, wide)[:-1]:
        table.add_column(title, justify="right", no_wrap=title in UNBROKEN)
    table.add_column("", min_width=12)
    for each in comparisons:
        table.add_row(escape(each.group.label), *group_cells(each, metrics, wide))
    return table


def markdown(facts: Sequence[str], found: Grouped, comparisons: Sequence[Comparison]) -> str:
    """The report as a Markdown page: facts, ranked groups, runs."""
    metrics = brief_metrics(found.groups)
    groups = [[each.group.label, *group_cells(each, metrics)] for each in comparisons]
    rows = csv_rows(found)
    columns = shown_columns(found, rows)
    runs = [[cell_text(key, row[key]) for key in columns] for row in rows]
    return "\n\n".join(
        [
            "# Report",
            *facts,
            "## Groups of runs that differ only in the seed",
            "Per cent; mean ± sample standard deviation over seeds; difference in image AUROC to "
            "the baseline with its 95 % interval (paired bootstrap over test images) and p "
            "(DeLong's test, adjusted by Holm's procedure for all groups of the dataset).",
            table(["group", *group_titles(metrics)], list(map(cells, groups))),
            "## Runs",
            table(list(columns.values()), list(map(cells, runs))) + "\n",
        ]
    )


def cells(row: Sequence[str]) -> list[str]:
    """Texts escaped so that they do not end a cell of a Markdown table or start an HTML tag."""
    return [" ".join(text.split()).replace("|", "\\|").replace("<", "&lt;") for text in row]
