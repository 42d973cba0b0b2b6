"""The final table of a comparison of methods, and how to read it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from occ_lab.metrics.bootstrap import Difference, Interval
from occ_lab.reporting.record import mean_metrics
from occ_lab.reporting.tables.results import percent

PIXEL = {"pixel_auroc": "pixel\nAUROC", "pixel_aupro": "pixel\nAUPRO"}
FEW = 20  # images; with fewer of a kind, a line warns about it


@dataclass(frozen=True)
class Row:
    """The results of one method in a comparison.

    Attributes:
        name: the method as specified by the user.
        run: its run directory.
        tasks: the figures of each task, as in ``metrics.json``.
        image_auroc: the mean over tasks; None without anomalous images.
        difference: from the best method, on the same images; None for the best one, or without one.
        fit_seconds: the total over all tasks, without features.
        images_per_second: from decoded images to maps and scores, the mean over tasks.
        size_mb: the size of the checkpoint without the backbone, the mean over tasks.
        pasted_auroc: normal against cut-and-pasted positions, the mean over tasks.
    """

    name: str
    run: Path
    tasks: dict[str, dict[str, Any]]
    image_auroc: Interval | None
    difference: Difference | None
    fit_seconds: float
    images_per_second: float
    size_mb: float
    pasted_auroc: float | None

    @property
    def label(self) -> str:
        """Its name in tables: settings without their group."""
        return self.name.replace(" loss.", " ")

    @property
    def best(self) -> bool:
        """Whether no method has a higher image AUROC."""
        return self.image_auroc is not None and self.difference is None

    @property
    def worse(self) -> bool:
        """Whether it is significantly worse than the best method."""
        return self.difference is not None and self.difference.high < 0

    @property
    def figures(self) -> dict[str, Any]:
        """Its entry in ``compare.json``."""
        difference = None
        if self.difference:
            difference = {**asdict(self.difference), "beyond_chance": self.worse}
        return {
            "method": self.name,
            "run": f"{self.run.parent.name}/{self.run.name}",
            "mean": mean_metrics(self.tasks),
            "image_auroc": None if self.image_auroc is None else asdict(self.image_auroc),
            "difference": difference,
            "fit_seconds": self.fit_seconds,
            "images_per_second": self.images_per_second,
            "size_mb": self.size_mb,
            "pasted_auroc": self.pasted_auroc,
            "calibration": {
                name: figures["calibration"]
                for name, figures in self.tasks.items()
                if "calibration" in figures
            },
        }

    @property
    def cells(self) -> dict[str, Any]:
        """Its row in ``compare.csv``."""
        figures = self.figures
        interval, difference = figures["image_auroc"] or {}, figures["difference"] or {}
        mean = figures["mean"]
        return {
            "method": self.name,
            "run": figures["run"],
            "image_auroc": interval.get("value"),
            "image_auroc_low": interval.get("low"),
            "image_auroc_high": interval.get("high"),
            **{name: mean.get(name) for name in PIXEL},
            "difference": difference.get("value"),
            "difference_low": difference.get("low"),
            "difference_high": difference.get("high"),
            "beyond_chance": difference.get("beyond_chance"),
            **{name: figures[name] for name in ("fit_seconds", "images_per_second", "size_mb")},
            "pasted_auroc": self.pasted_auroc,
        }


def compare_table(title: str, rows: Sequence[Row]) -> Table:
    """A table of accuracy, if known, and cost; two lines per method, to fit narrow terminals.

    Args:
        title: the title of the table.
        rows: in the order in which the methods were specified.
    """
    accurate = any(row.image_auroc for row in rows)
    means = [mean_metrics(row.tasks) for row in rows]
    pixel = [name for name in PIXEL if accurate and any(name in mean for mean in means)]
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("method", overflow="fold")
    accuracy = ["image\nAUROC", "from\nthe best"] if accurate else ["pasted patches,\nAUROC"]
    for column in (*accuracy, *(PIXEL[name] for name in pixel), "fit\n(s)", "images\nper s", "MB"):
        table.add_column(column, justify="right", no_wrap=True)
    for row, mean in zip(rows, means, strict=True):
        figures = (
            [image_auroc(row), from_the_best(row)] if accurate else [percent(row.pasted_auroc)]
        )
        pixels = [percent(mean.get(name)) for name in pixel]
        cost = map(short, (row.fit_seconds, row.images_per_second, row.size_mb))
        table.add_row(Text(row.label.replace(" ", "\n")), *map(Text, figures), *pixels, *cost)
    return table


def image_auroc(row: Row) -> str:
    """The image AUROC of a method with its interval."""
    return "–" if row.image_auroc is None else with_interval(row.image_auroc)


def from_the_best(row: Row) -> str:
    """The difference from the best method, with a star if it is significant."""
    if row.difference is None:
        return "best" if row.best else "–"
    return with_interval(row.difference, "*" if row.worse else "").replace("-", "−")


def short(value: float) -> str:
    """A number with one decimal place, or none from 100 on.

    Example:
        >>> short(9.96), short(126.7)
        ('10.0', '127')
    """
    return f"{value:.1f}" if value < 100 else f"{value:.0f}"


def with_interval(found: Interval, mark: str = "") -> str:
    """A figure in per cent with a mark, and the interval below."""
    return f"{percent(found.value)}{mark}\n[{percent(found.low)},{percent(found.high)}]"


def thresholds_of(rows: Sequence[Row]) -> dict[str, dict[str, Any]]:
    """The figures of each method on each task, by their row names in a table."""
    return {
        row.label if len(row.tasks) == 1 else f"{row.label}, {task}": figures
        for row in rows
        for task, figures in row.tasks.items()
    }


def suggested(rows: Sequence[Row]) -> Row:
    """The first method that is not significantly worse than the best one."""
    return next(row for row in rows if not row.worse)


def closing_lines(rows: Sequence[Row], normal: int, anomalous: int) -> list[str]:
    """Lines that explain the figures and suggest a method.

    Args:
        rows: in the order in which the methods were specified.
        normal: the number of normal test images.
        anomalous: the number of anomalous test images.
    """
    row = suggested(rows)
    accurate = row.image_auroc is not None
    if not accurate:
        reason = "the first of the list; these figures give no reason to prefer another"
    elif row.best:
        reason = "the best here"
    else:
        reason = "the first of the list that is not significantly worse than the best"
    return [
        *(accuracy_lines(rows, normal, anomalous) if accurate else pasted_lines(normal)),
        "fit: seconds without the features, which all methods share. images per s: from decoded "
        "images to maps and scores. MB: the file without the backbone.",
        f"Take {row.name}: {reason}.",
    ]


def pasted_lines(normal: int) -> list[str]:
    """Lines about a comparison without anomalous images."""
    return [
        "Accuracy cannot be compared without anomalous images.",
        f"pasted patches: how well a method separates patches of the {normal} held-out normal "
        "images from patches that are pasted together from them. These are artificial defects, and "
        "they come from other positions, which suits methods that learn each position. A low "
        "figure is a warning, but a high figure does not prove that your defects are found.",
    ]


def accuracy_lines(rows: Sequence[Row], normal: int, anomalous: int) -> list[str]:
    """Lines about the reliability of the test figures."""
    lines = [
        f"[low,high]: 95 % interval, bootstrap of the {normal} normal and {anomalous} anomalous "
        "test images; pixel figures have none. *: significantly worse than the best, on the same "
        "images."
    ]
    if min(normal, anomalous) < FEW:
        lines.append(
            f"{normal} and {anomalous} images are few: the intervals are too narrow, and defects "
            "of other kinds are not compared."
        )
    sure = [row.name for row in rows if row.image_auroc and row.image_auroc.low == 1]
    if sure:
        least = 0.025 ** (1 / anomalous)
        lines.append(
            f"{', '.join(sure)}: all anomalous images score above all normal ones. An interval "
            f"without width is not a certainty: {anomalous} images only show that at least "
            f"{percent(least)} % of such defects do."
        )
    if len(rows) > 1:
        lines.append(
            f"The best of {len(rows)} methods on these images owes a part of its lead to chance "
            "and will lead by less on new images. Prefer the first of the list unless another is "
            "significantly better, or cheaper."
        )
    return lines
