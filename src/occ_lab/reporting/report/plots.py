"""The data of the charts in a report; the page passes them to Plotly."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from occ_lab.metrics.curves import operating_point, precision_recall, roc, thinned
from occ_lab.reporting.report.gather import Task
from occ_lab.reporting.report.groups import RANKED_BY, Group, Grouped
from occ_lab.reporting.report.training import panels

LIMIT = 5_000_000  # characters of all score charts together


def norm_curves(found: Grouped) -> list[dict[str, Any]]:
    """For each dataset, the image AUROC over log2(norm): one line per set of otherwise equal runs.

    Only lines with at least two norms are drawn; datasets without such a line are left out.

    Returns:
        ``dataset`` and ``lines``. A line has a ``name``, ``norms`` (ascending), ``log2``, ``auroc``
        and ``deviation`` over seeds (0 for a single seed), both in per cent.
    """
    charts = []
    for dataset, groups in found.datasets.items():
        lines: dict[str, list[tuple[float, float, float]]] = {}
        for group in groups:
            overall = group.overall(RANKED_BY)
            if group.norm is not None and overall is not None:
                point = (group.norm, 100 * overall.mean, 100 * (overall.deviation or 0.0))
                lines.setdefault(group.method_but_norm, []).append(point)
        drawn = [line(name, points) for name, points in lines.items() if len(points) > 1]
        if drawn:
            charts.append({"dataset": dataset, "lines": drawn})
    return charts


def line(name: str, points: Sequence[tuple[float, float, float]]) -> dict[str, Any]:
    """One line of a chart over norms."""
    norms, aurocs, deviations = zip(*sorted(points), strict=True)
    return {
        "name": name,
        "norms": norms,
        "log2": [math.log2(norm) for norm in norms],
        "auroc": aurocs,
        "deviation": deviations,
    }


def score_charts(found: Grouped, rates: Sequence[float]) -> tuple[list[dict[str, Any]], int]:
    """Scores and curves of each run and task, the best groups first, within `LIMIT`.

    Returns:
        For each run, ``label`` and ``tasks`` by name; and the number of runs that did not fit.
    """
    charts: list[dict[str, Any]] = []
    left, dropped = LIMIT, 0
    for group in by_rank(found):
        for seed in group.seeds:
            tasks = {
                name: task_charts(results[seed], rates)
                for name, results in group.tasks.items()
                if seed in results
            }
            if not tasks:
                continue
            left -= len(json.dumps(tasks))
            if left < 0 and charts:
                dropped += 1
            else:
                charts.append({"label": f"{group.label}, seed {seed}", "tasks": tasks})
    return charts, dropped


def by_rank(found: Grouped) -> list[Group]:
    """All groups; the first-ranked groups of all datasets come before the second-ranked ones."""
    ranked = [
        (rank, group) for groups in found.datasets.values() for rank, group in enumerate(groups)
    ]
    return [group for _, group in sorted(ranked, key=lambda each: each[0])]


def task_charts(task: Task, rates: Sequence[float]) -> dict[str, Any]:
    """The charts of one task of one run."""
    threshold = (task.figures.get("calibration") or {}).get("threshold")
    known = threshold is not None and math.isfinite(threshold)
    normal, anomalous = (exact(task.scores[task.labels == label]) for label in (0, 1))
    charts: dict[str, Any] = {
        "normal": normal,
        "anomalous": anomalous,
        "calibration": exact(np.array(task.calibration)),
        "threshold": exact(np.array([threshold]))[0] if known else None,
        "training": panels(task.curves),
    }
    if not normal or not anomalous:
        return charts
    points = {rate: operating_point(task.scores, task.labels, rate) for rate in rates}
    return {
        **charts,
        "auroc": task.metric("image_auroc"),
        "ap": task.metric("image_ap"),
        "roc": [rounded(part) for part in thinned(*roc(task.scores, task.labels))],
        "pr": [rounded(part) for part in thinned(*precision_recall(task.scores, task.labels))],
        "points": [
            {
                "rate": rate,
                "threshold": point.threshold if math.isfinite(point.threshold) else None,
                "overkill": point.overkill,
                "escape": point.escape,
            }
            for rate, point in points.items()
        ],
    }


def exact(scores: np.ndarray) -> list[float | str]:
    """Scores in the fewest digits that keep float32 apart; JSON has no infinity, text has."""
    return [
        float(str(score)) if np.isfinite(score) else ("Infinity" if score > 0 else "-Infinity")
        for score in scores.astype(np.float32)
    ]


def rounded(values: np.ndarray, digits: int = 4) -> list[float]:
    """Numbers rounded to significant digits, to keep the page small."""
    return [float(f"{value:.{digits}g}") for value in values.tolist()]
