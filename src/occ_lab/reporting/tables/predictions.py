"""The printed tables for new images that were scored."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from occ_lab.metrics.drift import Drift, Span
from occ_lab.utils.names import printable

MOST = 20  # rows


def rejects_table(rejects: Sequence[tuple[Path, float, float]]) -> Table:
    """The rejected images, at most twenty.

    Args:
        rejects: path, score and p-value of each, the worst first.
    """
    table = Table(title="rejected, worst first", title_justify="left", box=SIMPLE_HEAD)
    for column in ("score", "p-value"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("image", overflow="fold")
    for path, score, p_value in rejects[:MOST]:
        table.add_row(f"{score:.6g}", f"{p_value:.4g}", Text(printable(str(path))))
    if len(rejects) > MOST:
        table.add_row("", "", f"and {len(rejects) - MOST} more in the table")
    return table


def drift_lines(found: Drift, images: Sequence[tuple[Path, bool]], alarm: float) -> list[str]:
    """One line for each span of images whose scores are higher than those of the calibration.

    Args:
        found: the result of the tests.
        images: path and decision of each image, in the order in which they were tested.
        alarm: the false-alarm rate of all tests together.
    """
    return [drift_line(span, images, found.tests, alarm) for span in found.spans]


def drift_line(span: Span, images: Sequence[tuple[Path, bool]], tests: int, alarm: float) -> str:
    """One span: the images, how many of them were rejected, and the p-value."""
    some = images[span.first : span.last + 1]
    rejected = sum(anomalous for _, anomalous in some)
    names = f"{printable(some[0][0].name)} to {printable(some[-1][0].name)}"
    together = "a test" if tests == 1 else f"{tests} tests"
    return (
        f"drift: images {span.first + 1} to {span.last + 1} ({names}) score higher than those of "
        f"the calibration, {rejected} of {len(some)} are rejected; p = {span.p_value:.1g} in "
        f"{together} with a false-alarm rate of {100 * alarm:g} %"
    )
