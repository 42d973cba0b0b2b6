"""The plot of a training whose number of steps was chosen automatically."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from occ_lab.reporting.norm_plots import ANOMALOUS, FAINT, INK, NORMAL, STYLE


def save_learning_curve(
    path: Path, title: str, curve: Sequence[dict[str, float]], chosen: int | None
) -> None:
    """Plot the losses and the AUROC of cut-and-pasted features over the number of steps.

    Args:
        path: the file to write.
        title: describes the training.
        curve: for each ``step``, its ``loss``, ``held_out_loss`` and ``cut_and_paste_auroc`` in
            0..1, see `occ_lab.engine.steps.ChosenSteps`.
        chosen: the chosen number of steps.
    """
    steps = [row["step"] for row in curve]
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(7, 5.2), layout="constrained")
        above, below = figure.subplots(2, 1, sharex=True)
        figure.suptitle(title, x=0.01, ha="left")
        above.plot(steps, [row["loss"] for row in curve], "o-", ms=4, color=FAINT, label="training")
        held_out = [row["held_out_loss"] for row in curve]
        above.plot(steps, held_out, "o-", ms=4, color=NORMAL, label="held out")
        above.set(ylabel="loss")
        above.legend()
        aurocs = [100 * row["cut_and_paste_auroc"] for row in curve]
        below.plot(steps, aurocs, "o-", ms=4, color=ANOMALOUS)
        below.set(ylabel="cut-and-paste AUROC (%)", xlabel="optimizer steps")
        below.set_xscale("log", base=2)
        below.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        for axes in (above, below):
            axes.grid(axis="y")
            if chosen is not None:
                axes.axvline(chosen, color=INK, lw=1, ls="--")
        figure.savefig(path, dpi=150)
