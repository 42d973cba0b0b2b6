"""The final table of a sweep: its jobs, ranked, with their spread over seeds."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from occ_lab.reporting.report.groups import spread
from occ_lab.reporting.report.tables import spread_text
from occ_lab.reporting.tables.results import TITLES, brief, percent, seconds
from occ_lab.utils.files import FAILURE
from occ_lab.utils.plain import read_json, read_yaml
from occ_lab.utils.scratch import visible

RANKED_BY = "image_auroc"
LEFT_OUT = ("image_ap", "image_f1max")  # so that the settings have room
OVERRIDES = Path(".hydra", "overrides.yaml")
REPEATED_BY = ("seed", "resume")  # keys in which the runs of one group may differ


@dataclass(frozen=True)
class Job:
    """A job of a sweep.

    Attributes:
        name: the name of its directory.
        overrides: the overrides of its command that not all jobs have.
        metrics: means over its tasks, in 0..1; empty unless it is finished.
        seconds: the total time of its tasks.
        problem: the reason why it is not finished; empty if it is.
        published: metrics of a paper to compare with, in 0..1.
    """

    name: str
    overrides: list[str]
    metrics: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    problem: str = ""
    published: dict[str, Any] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """The settings that distinguish it from the others."""
        return " ".join(self.overrides)

    @property
    def group(self) -> str:
        """The label without the seed."""
        return " ".join(each for each in self.overrides if each.split("=")[0] not in REPEATED_BY)


def jobs_of(directory: Path) -> list[Job]:
    """The jobs in a sweep's directory, by number."""
    folders = sorted(
        (path for path in visible(directory, "*") if (path / OVERRIDES).is_file()),
        key=lambda folder: (len(folder.name), folder.name),
    )
    commands = [read_yaml(folder / OVERRIDES) for folder in folders]
    shared = set.intersection(*map(set, commands)) if len(commands) > 1 else set()
    return [
        job
        for folder, command in zip(folders, commands, strict=True)
        for job in read_jobs(folder, [each for each in command if each not in shared])
    ]


def read_jobs(folder: Path, overrides: list[str]) -> list[Job]:
    """One job from its directory; for two-stage jobs, one for each density."""
    stages = folder / "two_stage.json"
    if not stages.is_file() or (folder / FAILURE).is_file():
        return [read_job(folder, overrides)]
    densities = read_json(stages)["densities"]
    known = published_of(folder)
    return [
        Job(
            folder.name,
            [*overrides, name],
            run["mean"],
            sum(map(seconds, run["tasks"].values())),
            published=known if name == known.get("density") else {},
        )
        for name, run in densities.items()
    ]


def read_job(folder: Path, overrides: list[str]) -> Job:
    """One job from its directory."""
    if (folder / FAILURE).is_file():
        summary = (folder / FAILURE).read_text(encoding="utf-8").splitlines()[0]
        return Job(folder.name, overrides, problem=summary)
    results = folder / "metrics.json"
    if not results.is_file():
        return Job(folder.name, overrides, problem="has no results")
    found: dict[str, Any] = read_json(results)
    spent = sum(map(seconds, found["tasks"].values()))
    known = published_of(folder)
    return Job(folder.name, overrides, found["mean"], spent, published=known)


def published_of(folder: Path) -> dict[str, Any]:
    """The published figures in the settings of a job; empty if there are none."""
    kept = folder / "config.yaml"
    settings = read_yaml(kept) if kept.is_file() else {}
    return (settings.get("published") if isinstance(settings, dict) else None) or {}


def ranking(jobs: list[Job]) -> list[list[Job]]:
    """Finished jobs in groups that differ only in the seed, the best mean image AUROC first."""
    groups: dict[str, list[Job]] = {}
    for job in jobs:
        if not job.problem:
            groups.setdefault(job.group, []).append(job)

    def best(group: list[Job]) -> float:
        return fmean(job.metrics.get(RANKED_BY, 0.0) for job in group)

    return sorted(groups.values(), key=best, reverse=True)


def sweep_table(groups: list[list[Job]]) -> Table:
    """One row for each group: mean ± deviation over seeds in per cent, seconds of a job.

    Where a paper has a figure for a group, it stands in a column beside ours.
    """
    present = {metric for group in groups for job in group for metric in job.metrics}
    shown = [metric for metric in brief(present) if metric not in LEFT_OUT]
    table = Table(title="per cent, best first", title_justify="left", box=SIMPLE_HEAD)
    table.add_column("settings", overflow="fold", min_width=16)
    table.add_column("seeds", justify="right")
    beside = [m for m in shown if any(g[0].published.get(m) is not None for g in groups)]
    for metric in shown:
        table.add_column(TITLES[metric], justify="right")
        if metric in beside:
            table.add_column("published", justify="right")
    table.add_column("time (s)", justify="right")
    for group in groups:
        cells = []
        for metric in shown:
            found = [job.metrics[metric] for job in group if metric in job.metrics]
            cells.append(spread_text(spread(found)))
            if metric in beside:
                cells.append(percent(group[0].published.get(metric)))
        spent = fmean(job.seconds for job in group)
        table.add_row(group[0].group or "all alike", str(len(group)), *cells, f"{spent:.1f}")
    return table
