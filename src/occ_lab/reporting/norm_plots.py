"""The plots of a norm study: AUROC over the norm, and length and angle of features."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator

INK, FAINT = "#222222", "#8a8a8a"
NORMAL, ANOMALOUS = "#2a6fbb", "#d9541e"
SHOWN = 1500  # points of each kind in a polar plot
STYLE: Any = {  # Any: matplotlib types its keys differently in every release
    "font.size": 11,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "grid.color": "#d0d0d0",
    "legend.frameon": False,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
}


class Cloud(NamedTuple):
    """Test positions relative to a target of some norm.

    Attributes:
        norm: the norm of the target.
        length: ‖φ‖ of each position ``[P]``.
        cosine: the cosine of the angle between φ and the target ``[P]``.
        anomalous: bool ``[P]``.
        aurocs: the AUROCs, in 0..1, that separate positions by ``angle`` alone, by ``length``
            alone (its difference from the norm of the target), and by ``score``, the distance to
            the target.
    """

    norm: float
    length: np.ndarray
    cosine: np.ndarray
    anomalous: np.ndarray
    aurocs: dict[str, float]


def save_curve(
    path: Path, title: str, norms: Sequence[float], times: Sequence[dict[str, Any]]
) -> None:
    """Plot the AUROC over log2(norm), one line for each time, above the feasible domains.

    Args:
        path: the file to write.
        title: describes the study.
        norms: in ascending order.
        times: for each time: ``time`` (t, or ``integrated``), ``image_auroc`` and optionally
            ``pixel_auroc`` over the norms, ``domain`` and ``agreement``, as in ``norm_study.json``.
    """
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(8, 4.6 + 0.3 * len(times)), layout="constrained")
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=[10, 1 + 0.9 * len(times)])
        colours = matplotlib.colormaps["viridis"](np.linspace(0.05, 0.75, len(times)))
        for row, (grid, colour) in enumerate(zip(times, colours, strict=True)):
            draw_time(above, below, norms, grid, colour, row)
        figure.suptitle(title, x=0.01, ha="left")
        above.set(ylabel="AUROC (%)")
        above.set_xscale("log", base=2)
        above.grid(axis="y")
        above.tick_params(axis="x", length=0)
        handles, labels = above.get_legend_handles_labels()
        if "pixel_auroc" in times[0]:
            handles += [Line2D([], [], color=INK), Line2D([], [], color=INK, ls="--")]
            labels += ["image", "pixel"]
        above.legend(handles, labels, loc="lower left")
        below.set_yticks(range(len(times)), [time_label(grid["time"]) for grid in times])
        below.set(ylim=(len(times) - 0.4, -0.6), xlabel="norm of the target")
        below.set_title(
            "feasible domain: bar, estimated without labels;"
            " ◆, where the image AUROC has fallen by 1 point",
            fontsize=9.5,
        )
        below.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        below.set_xticks(norms)
        below.minorticks_off()
        below.set_xlim(norms[0] / 1.2, norms[-1] * 1.2)
        below.spines["left"].set_visible(False)
        below.tick_params(axis="y", length=0)
        figure.savefig(path, dpi=150)


def time_label(time: float | str) -> str:
    """``t = 3``, or ``integrated`` for several times.

    Example:
        >>> time_label(3.0), time_label("integrated")
        ('t = 3', 'integrated')
    """
    return time if isinstance(time, str) else f"t = {time:g}"


def draw_time(
    above: Axes, below: Axes, norms: Sequence[float], grid: dict[str, Any], colour: Any, row: int
) -> None:
    """Draw the lines and the bar of one time."""
    end, fit = grid["domain"]["end"], grid["agreement"]
    start = norms[0] / 2  # the domain begins at 0, which a logarithmic axis cannot show
    above.axvspan(start, end, color=colour, alpha=0.07, lw=0)
    above.axvline(end, color=colour, lw=1, ls=":")
    label = time_label(grid["time"])
    above.plot(norms, 100 * np.array(grid["image_auroc"]), "o-", ms=4, color=colour, label=label)
    if "pixel_auroc" in grid:
        above.plot(norms, 100 * np.array(grid["pixel_auroc"]), "--", color=colour)
    below.barh(row, end - start, left=start, height=0.6, color=colour, alpha=0.35)
    if fit["measured_end"] is not None:
        below.plot(fit["measured_end"], row, "D", ms=6, color=colour, clip_on=False)


def save_histograms(path: Path, title: str, clouds: Sequence[Cloud]) -> None:
    """Plot histograms of ‖φ‖ and of the cosine to the target by kind, one row for each norm."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(9, 2.9 * len(clouds) + 0.8), layout="constrained")
        figure.suptitle(title, x=0.01, ha="left")
        rows = figure.subplots(len(clouds), 2, squeeze=False)
        for (left, right), points in zip(rows, clouds, strict=True):
            shown = {name: f"AUROC {100 * value:.1f} %" for name, value in points.aurocs.items()}
            histogram(left, points.length, points.anomalous)
            left.axvline(points.norm, color=INK, lw=1, ls="--", label="target")
            left.set(xlabel="feature norm ‖φ‖", ylabel="density")
            left.set_title(f"norm {points.norm:g}     length alone: {shown['length']}")
            histogram(right, points.cosine, points.anomalous)
            right.set(xlabel="cosine to the target")
            right.set_title(f"angle alone: {shown['angle']}     score: {shown['score']}")
        figure.legend(*rows[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
        figure.savefig(path, dpi=150)


def histogram(axes: Axes, values: np.ndarray, anomalous: np.ndarray) -> None:
    """Draw two densities over the range of both kinds, without the outermost values."""
    kinds = {"normal": values[~anomalous], "anomalous": values[anomalous]}
    ends = [np.quantile(part, [0.005, 0.999]) for part in kinds.values()]
    low, high = (float(end) for end in (min(e[0] for e in ends), max(e[1] for e in ends)))
    for (kind, part), colour in zip(kinds.items(), (NORMAL, ANOMALOUS), strict=True):
        axes.hist(
            part,
            bins=80,
            range=(low, high),
            density=True,
            histtype="stepfilled",
            facecolor=(colour, 0.25),
            edgecolor=colour,
            linewidth=1.5,
            label=kind,
        )
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)


def save_polar(path: Path, title: str, clouds: Sequence[Cloud], seed: int) -> None:
    """Plot angle against ‖φ‖, one panel for each norm; ``SHOWN`` random points of each kind."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(5.2 * len(clouds), 3.6))
        # Half discs are drawn in boxes of twice their height, which may extend beyond the figure.
        figure.subplots_adjust(left=0.05, right=0.95, bottom=-0.2, top=1.1, wspace=0.2)
        figure.suptitle(title, x=0.01, y=0.99, ha="left")
        panels = figure.subplots(1, len(clouds), squeeze=False, subplot_kw={"projection": "polar"})
        for axes, points in zip(panels[0], clouds, strict=True):
            rng = np.random.default_rng(seed)
            kinds = [np.flatnonzero(points.anomalous == kind) for kind in (False, True)]
            shown = np.concatenate([rng.permutation(indices)[:SHOWN] for indices in kinds])
            rng.shuffle(shown)  # otherwise one kind would cover the other
            colours = np.where(points.anomalous[shown], ANOMALOUS, NORMAL)
            length = points.length[shown]
            axes.scatter(np.arccos(points.cosine[shown]), length, 5, colours, alpha=0.4, lw=0)
            axes.plot(0, points.norm, "*", ms=14, color=INK, clip_on=False)
            axes.set(thetamin=0, thetamax=180, rmax=1.05 * max(points.norm, length.max()), rmin=0)
            axes.yaxis.set_major_locator(MaxNLocator(4))
            axes.set_axisbelow(True)
            axes.set_title(f"norm {points.norm:g}", y=0.8)
        keys = {"normal": ("o", NORMAL), "anomalous": ("o", ANOMALOUS), "target": ("*", INK)}
        handles = [
            Line2D([], [], ls="", marker=marker, color=colour, label=label)
            for label, (marker, colour) in keys.items()
        ]
        figure.legend(handles=handles, loc="lower center", ncols=3)
        figure.savefig(path, dpi=150)
