"""The final table of a run."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from occ_lab.metrics.calibration import RATE, fewest, kept_rate, smallest_rate
from occ_lab.metrics.limits import AUPRO_LIMIT
from occ_lab.reporting.record import METRICS, mean_metrics

TITLES = {
    "image_auroc": "image AUROC",
    "image_ap": "image AP",
    "image_f1max": "image F1",
    "pixel_auroc": "pixel AUROC",
    "pixel_aupro": "pixel AUPRO",
    "pixel_aupro_005": "pixel AUPRO to 5 %",
    "pixel_ap": "pixel AP",
    "pixel_f1max": "pixel F1",
    "pixel_segf1": "pixel SegF1",
    "pixel_aupimo": "pixel AUPIMO",
    "pixel_spro": "pixel sPRO",
    "pixel_spro_005": "pixel sPRO to 5 %",
}


def brief(present: Collection[str]) -> list[str]:
    """The metrics that fit a terminal; where sPRO is known, it takes the place of AUPRO.

    Args:
        present: the names of the metrics that are known.

    Example:
        >>> brief(["image_auroc", "pixel_aupro", "pixel_ap"])
        ['image_auroc', 'pixel_aupro']
        >>> brief(["image_auroc", "pixel_aupro", "pixel_spro_005"])
        ['image_auroc', 'pixel_spro_005']
    """
    overlap = "pixel_spro_005" if "pixel_spro_005" in present else "pixel_aupro"
    return [metric for metric in (*METRICS[:4], overlap) if metric in present]


def results_table(
    title: str, tasks: dict[str, dict[str, Any]], published: Mapping[str, Any] | None = None
) -> Table:
    """One row for each task and the mean: `brief` metrics in per cent, time in seconds.

    Args:
        title: the title of the table.
        tasks: the figures of each task, by its name.
        published: metrics in 0..1, of the mean and in ``tasks`` of each task by its name, which
            stand in a column beside ours.
    """
    known = published or {}
    single: Mapping[str, Any] = known.get("tasks") or {}
    mean = mean_metrics(tasks)
    shown = brief(mean)
    beside = [
        metric
        for metric in shown
        if (len(tasks) > 1 and known.get(metric) is not None)
        or any(metric in single.get(name, {}) for name in tasks)
    ]
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, show_footer=len(tasks) > 1)
    table.add_column("task", footer="mean", no_wrap=True)
    table.add_column("train", justify="right")
    table.add_column("test", justify="right")
    for metric in shown:
        table.add_column(TITLES[metric], justify="right", footer=percent(mean.get(metric)))
        if metric in beside:
            table.add_column("published", justify="right", footer=percent(known.get(metric)))
    table.add_column("time (s)", justify="right", footer=f"{sum(map(seconds, tasks.values())):.1f}")
    for name, figures in tasks.items():
        cells = []
        for metric in shown:
            cells.append(percent(figures.get(metric)))
            if metric in beside:
                cells.append(percent(single.get(name, {}).get(metric)))
        counts = (str(figures["n_train"]), str(figures["n_test"]))
        table.add_row(name, *counts, *cells, f"{seconds(figures):.1f}")
    return table


def limit_line(limit: float) -> str:
    """One line about the limit of areas, if it is not the usual one; otherwise empty.

    Args:
        limit: of the false-positive rate, in (0, 1].

    Example:
        >>> limit_line(0.1), limit_line(0.3)
        ('pixel AUPRO: up to a false-positive rate of 10 %', '')
    """
    usual = limit == AUPRO_LIMIT
    return "" if usual else f"pixel AUPRO: up to a false-positive rate of {100 * limit:g} %"


def published_line(published: Mapping[str, Any] | None) -> str:
    """One line with published metrics and their source; empty if there are none.

    Example:
        >>> published_line({"image_auroc": 0.993, "source": "Lee et al. 2022, table 1"})
        'published: image AUROC 99.3; Lee et al. 2022, table 1'
    """
    figures = published or {}
    shown = [
        f"{TITLES[metric]} {percent(figures[metric])}"
        for metric in METRICS
        if figures.get(metric) is not None
    ]
    return f"published: {', '.join(shown)}; {figures['source']}" if shown else ""


def calibration_table(tasks: dict[str, dict[str, Any]], column: str = "task") -> Table | None:
    """The threshold of each task and its effect on the test images; None if there is none.

    Args:
        tasks: the figures of each task, by the name of its row.
        column: the title of the column with these names.
    """
    found = {name: each["calibration"] for name, each in tasks.items() if "calibration" in each}
    if not found:
        return None
    title = "calibrated threshold and its false-positive rate (per cent)"
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD)
    table.add_column(column, overflow="fold")
    titles = ("images", "threshold", "rate", "smallest rate", "rate in test", "defects missed")
    for each in titles:
        table.add_column(each, justify="right")
    for name, figures in found.items():
        images = figures["images"]
        rates = (kept_rate(images, figures["asked"]), smallest_rate(images))
        observed = (figures["overkill"], figures["escape"])
        shown = [percent(rate) for rate in (*rates, *observed)]
        table.add_row(name, str(images), f"{figures['threshold']:.6g}", *shown)
    return table


def accuracy_notes(tasks: dict[str, dict[str, Any]]) -> list[str]:
    """A line for each task whose image AUROC is below one half.

    Example:
        >>> (note,) = accuracy_notes({"bolt": {"image_auroc": 0.9}, "nut": {"image_auroc": 0.1}})
        >>> note.split(" means")[0]
        'nut: an image AUROC below 50 %'
    """
    return [
        f"{name}: an image AUROC below 50 % means that anomalous images score lower than normal "
        "ones; are there mistakes in the folders, or very few images?"
        for name, each in tasks.items()
        if each.get("image_auroc", 1.0) < 0.5
    ]


def calibration_notes(tasks: dict[str, dict[str, Any]], alarm: float) -> list[str]:
    """Lines about the thresholds of tasks that the user should know.

    Args:
        tasks: the figures of each task.
        alarm: the false-alarm rate of the test that compares test and calibration images.
    """
    notes = []
    for name, each in tasks.items():
        found = each.get("calibration")
        if found is None:
            continue
        if len(tasks) == 1:
            rate = percent(kept_rate(found["images"], found["asked"]))
            notes.append(
                f"{name}: an image that scores above {found['threshold']:.6g} is rejected; so are "
                f"{rate} % of normal images like the training images"
            )
        smallest = smallest_rate(found["images"])
        if smallest > RATE:
            notes.append(
                f"{name}: {found['images']} images can guarantee no false-positive rate below "
                f"{100 * smallest:.3g} %; {100 * RATE:g} % needs {fewest(RATE)} images"
            )
        if found.get("drift") is not None and found["drift"] <= alarm:  # earlier runs have none
            notes.append(
                f"{name}: the normal test images score higher than the calibration images "
                f"(p = {found['drift']:.1g}): they differ from the training images, or the "
                "training images are near-copies of each other. The threshold does not hold for "
                "them"
            )
    return notes


def seconds(figures: dict[str, Any]) -> float:
    """The total time of a task."""
    return float(sum(figures["seconds"].values()))


def percent(fraction: float | None) -> str:
    """A fraction in per cent with one digit, or a dash if it is None.

    Example:
        >>> percent(0.1234), percent(None)
        ('12.3', '–')
    """
    return "–" if fraction is None else f"{100 * fraction:.1f}"
