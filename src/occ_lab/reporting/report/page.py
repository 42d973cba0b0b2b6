"""The report as a single, self-contained HTML page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from occ_lab import __version__
from occ_lab.metrics.bootstrap import Difference
from occ_lab.metrics.limits import AUPRO_LIMIT
from occ_lab.reporting.record import METRICS
from occ_lab.reporting.report.compare import Comparison
from occ_lab.reporting.report.gather import LeftOut
from occ_lab.reporting.report.groups import Group, Grouped
from occ_lab.reporting.report.kinds import kind_matrices
from occ_lab.reporting.report.matrix import Matrix, escape_matrix, metric_matrix
from occ_lab.reporting.report.pictures import worst_misses
from occ_lab.reporting.report.plots import norm_curves, score_charts
from occ_lab.reporting.report.ranking import ranking_over_tasks
from occ_lab.reporting.report.tables import (
    brief_metrics,
    cell_text,
    csv_rows,
    interval_text,
    p_text,
    points,
    shown_columns,
    shown_metrics,
    spread_text,
    verdict,
)
from occ_lab.reporting.shared import SHARED, style, text_of
from occ_lab.reporting.tables.results import TITLES, limit_line
from occ_lab.utils.errors import InputError

TEMPLATES = Path(__file__).parent / "templates"
SCRIPTS = (
    TEMPLATES / "tables.js",
    TEMPLATES / "pictures.js",
    SHARED / "threshold.js",
    TEMPLATES / "charts.js",
)
LIMIT = 14_500_000  # characters of the page
LIMIT_KEY = "scoring.aupro_limit"  # in the settings of a run; earlier versions lack it
TEXT_COLUMNS = ("dataset", "loss", "backbone", "version", "directory", "command")


@dataclass(frozen=True)
class Report:
    """The content of a page.

    Attributes:
        sources: the directories that were searched.
        when: the time of the report.
        found: the groups of runs.
        left_out: directories that were not used.
        baselines: the baseline of each dataset, and how it was chosen.
        comparisons: the comparison of each group with its baseline, ranked.
        resamples: the number of bootstrap resamples.
        rates: false-positive rates in 0..1.
        pictures: the largest number of pictures of each task.
    """

    sources: Sequence[Path]
    when: datetime
    found: Grouped
    left_out: Sequence[LeftOut]
    baselines: dict[str, tuple[Group, str]]
    comparisons: Sequence[Comparison]
    resamples: int
    rates: Sequence[float]
    pictures: int

    @property
    def gathered(self) -> list[str]:
        """Lines about the gathered runs, the time, and the version."""
        groups = self.found.groups
        runs = sum(len(group.runs) for group in groups)
        tasks = len({(group.dataset, name) for group in groups for name in group.tasks})
        repeated = sum(group.repeated for group in groups)
        first = (
            f"{count(runs, 'run')} in {count(len(groups), 'group')}, {count(tasks, 'task')} of "
            f"{', '.join(self.found.datasets)}; gathered {self.when:%Y-%m-%d %H:%M} by "
            f"occ-lab {__version__} from {', '.join(map(str, self.sources))}."
        )
        again = f"{count(repeated, 'run')} repeated with the same seed: the newest counts."
        limits = {run.config.get(LIMIT_KEY, AUPRO_LIMIT) for group in groups for run in group.runs}
        # Runs with different limits are different groups, whose names say which.
        limit = limit_line(limits.pop()) if len(limits) == 1 else ""
        return [first, *([again] if repeated else []), *([limit] if limit else [])]

    @property
    def facts(self) -> list[str]:
        """Lines about the gathered runs, the baselines, and what was left out."""
        return [
            *self.gathered,
            *(
                f"Baseline of {name}: {group.method} ({why})."
                for name, (group, why) in self.baselines.items()
            ),
            *(f"Left out: {each.directory}: {each.reason}." for each in self.left_out),
        ]


def count(number: int, what: str) -> str:
    """A number with a noun in singular or plural.

    Example:
        >>> count(1, "run"), count(2, "run")
        ('1 run', '2 runs')
    """
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def require_extra() -> None:
    """Check that the packages for the page are installed.

    Raises:
        InputError: a package is not installed.
    """
    for name in ("plotly", "jinja2"):
        if find_spec(name) is None:
            raise InputError(f"{name} is not installed; pip install 'occ-lab[report]'")


def page(report: Report) -> str:
    """The report as HTML, below 15 MB unless its tables are larger."""
    import jinja2
    from markupsafe import Markup
    from plotly.offline import get_plotlyjs

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([TEMPLATES, SHARED]),
        autoescape=True,  # names, paths and messages may contain anything
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    charts, dropped = score_charts(report.found, report.rates)
    content: dict[str, Any] = {
        "report": report,
        "several": len(report.found.datasets) > 1,
        "runs": runs_table(report.found),
        "ranking": ranking_table(report.comparisons),
        "over_tasks": ranking_over_tasks(report.found),
        "matrices": metric_matrices(report.found),
        "kinds": kind_matrices(report.found),
        "escapes": escape_matrices(report.found, report.rates),
        "charts": {"norms": norm_curves(report.found), "scores": charts},
        "dropped": dropped,
        "style": Markup(style(TEMPLATES / "report.css")),
        "scripts": [Markup(text_of(each)) for each in SCRIPTS],
        "plotly": Markup(get_plotlyjs()),
    }
    template = environment.get_template("report.html")
    room = LIMIT - len(template.render(**content, misses=[], unreadable=[]))
    misses, unreadable = worst_misses(report.found, report.pictures, room)
    return template.render(**content, misses=misses, unreadable=unreadable)


def runs_table(found: Grouped) -> dict[str, Any]:
    """The titles, and for each cell its column, text and sort key."""
    rows = csv_rows(found)
    columns = shown_columns(found, rows)
    del columns["command"]  # shown below the directory
    return {
        "commands": [cell_text("command", row["command"]) for row in rows],
        "columns": [(key, title, is_number(rows, key)) for key, title in columns.items()],
        "rows": [
            [(key, cell_text(key, row[key]), sort_value(row[key])) for key in columns]
            for row in rows
        ],
    }


def is_number(rows: Sequence[dict[str, Any]], key: str) -> bool:
    """Whether all values of a column are numbers."""
    values = [row[key] for row in rows if row[key] is not None]
    return key not in TEXT_COLUMNS and all(isinstance(sort_value(v), float) for v in values)


def sort_value(value: Any) -> float | str:
    """The value as a number if possible, otherwise as text; empty text if it is missing."""
    if value is None:
        return ""
    try:
        return float(value)
    except ValueError:
        return str(value)


def ranking_table(comparisons: Sequence[Comparison]) -> dict[str, Any]:
    """The ranked groups and their differences from the baseline, each with a small drawing."""
    metrics = brief_metrics([each.group for each in comparisons])
    differences = [each.difference for each in comparisons if each.difference]
    reach = max((abs(x) for each in differences for x in (each.low, each.high)), default=0.0)
    rows, rank, dataset = [], 0, None
    for each in comparisons:
        rank = rank + 1 if each.group.dataset == dataset else 1
        dataset = each.group.dataset
        overall = [each.group.overall(metric) for metric in metrics]
        rows.append(
            {
                "rank": rank,
                "group": each.group,
                "cells": [(spread_text(value), value.mean if value else "") for value in overall],
                "comparison": each,
                "difference": points(each.difference.value) if each.difference else "",
                "interval": interval_text(each.difference) if each.difference else "",
                "p": p_text(each.p_value),
                "bar": bar(each.difference, reach) if each.difference else None,
                "verdict": verdict(each),
            }
        )
    return {"titles": [TITLES[metric] for metric in metrics], "rows": rows}


def bar(difference: Difference, reach: float) -> dict[str, float]:
    """The positions of interval and value in a drawing centred on 0; all in 0..200."""
    low, value, high = (
        round(100 + 94 * x / (reach or 1.0), 2)
        for x in (difference.low, difference.value, difference.high)
    )
    return {"low": low, "width": round(high - low, 2), "value": value}


def metric_matrices(found: Grouped) -> list[Matrix]:
    """A table for each metric that any group has."""
    shown = shown_metrics(found.groups)
    return [metric_matrix(TITLES[name], found, name) for name in METRICS if name in shown]


def escape_matrices(found: Grouped, rates: Sequence[float]) -> list[Matrix]:
    """A table for each false-positive rate."""
    return [escape_matrix(f"{100 * rate:g} % overkill", found, rate) for rate in rates]
