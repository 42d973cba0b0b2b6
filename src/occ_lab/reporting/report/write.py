"""Write the report over many runs as HTML, CSV and Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from rich.console import Console

from occ_lab.metrics.bootstrap import RESAMPLES
from occ_lab.reporting.record import to_csv
from occ_lab.reporting.report.compare import all_comparisons, choose_baselines
from occ_lab.reporting.report.gather import gather
from occ_lab.reporting.report.groups import grouped
from occ_lab.reporting.report.page import Report, page, require_extra
from occ_lab.reporting.report.tables import csv_rows, markdown, terminal_table
from occ_lab.utils.errors import InputError
from occ_lab.utils.files import write_whole


def write_report(
    directories: Sequence[Path],
    console: Console,
    *,
    out: Path | None = None,
    baseline: str | None = None,
    overkill: Sequence[float] = (0.01, 0.05),
    resamples: int = RESAMPLES,
    seed: int = 0,
    pictures: int = 4,
) -> None:
    """Write ``report.html``, ``report.csv`` and ``report.md``, and print the ranking.

    Args:
        directories: they and their subfolders are searched for runs.
        console: prints what was left out, the ranking, and the three files.
        out: the folder for the files; by default the first of the directories.
        baseline: the baseline of all comparisons, see `choose_baselines`.
        overkill: false-positive rates in 0..1 at which the miss rates are reported.
        resamples: the number of bootstrap resamples.
        seed: the seed of the bootstrap.
        pictures: the largest number of pictures of the worst misses of each task.

    Raises:
        InputError: plotly or jinja2 is not installed, a directory does not exist, no run can be
            read, or no group matches the baseline.
    """
    require_extra()
    gathered = gather(directories)
    for each in gathered.left_out:
        console.print(f"left out: {each.directory}: {each.reason}")
    if not gathered.runs:
        raise InputError(f"no run could be read in {', '.join(map(str, directories))}")
    found = grouped(gathered.runs)
    baselines = choose_baselines(found, baseline)
    report = Report(
        sources=directories,
        when=datetime.now(),
        found=found,
        left_out=gathered.left_out,
        baselines=baselines,
        comparisons=all_comparisons(found, baselines, resamples, seed),
        resamples=resamples,
        rates=overkill,
        pictures=pictures,
    )
    out = out or directories[0]
    write_whole(out / "report.csv", to_csv(csv_rows(found)))
    write_whole(out / "report.md", markdown(report.facts, found, report.comparisons))
    write_whole(out / "report.html", page(report))
    console.print(terminal_table(report.comparisons, console.width), soft_wrap=False)
    for suffix in ("html", "csv", "md"):
        console.print(str(out / f"report.{suffix}"))
