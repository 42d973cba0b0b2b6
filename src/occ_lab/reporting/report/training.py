"""The learning curves of a run, from the ``metrics.csv`` that Lightning's CSV logger writes."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from occ_lab.reporting.record import METRICS

LOG = "metrics.csv"
POINTS = 100  # of a curve
# Curves that share the first chart, and their names there.
LOSSES = {"loss": "training", "val_loss": "validation", "steps/held_out_loss": "held out"}
TITLES = {"steps/cut_and_paste_auroc": "AUROC of cut-and-pasted features"}
# Not shown: not of the training, or the same as another one.
SKIPPED = {"epoch", "step", "steps/loss", *METRICS}

Curve = list[tuple[int, float]]


def read_curves(path: Path) -> dict[str, Curve]:
    """What a training has logged, by name: the number of optimizer steps, and the value.

    Args:
        path: a ``metrics.csv``; without it, as for a closed form, there is no curve.

    Raises:
        ValueError: it is damaged.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     log = Path(folder, LOG)
        ...     rows = ["epoch,step,loss,image_auroc", "0,3,2.5,", "1,7,1.5,", "2,8,,0.9"]
        ...     _ = log.write_text(chr(10).join(rows))
        ...     read_curves(log)
        {'loss': [(4, 2.5), (8, 1.5)]}
    """
    if not path.is_file():
        return {}
    curves: dict[str, Curve] = {}
    with path.open(encoding="utf-8", newline="") as stream:
        for row in csv.DictReader(stream):
            # Lightning numbers the steps of an epoch's end from 0.
            step = int(row["step"]) + bool(row.get("epoch"))
            for name, text in row.items():
                if name in SKIPPED or not text:
                    continue
                if math.isfinite(value := float(text)):
                    curves.setdefault(name, []).append((step, value))
    return {name: points for name, points in curves.items() if len(points) > 1}


def panels(curves: Mapping[str, Curve]) -> list[dict[str, Any]]:
    """The charts of a training: the losses together, and everything else by itself.

    Returns:
        For each chart a ``title`` and ``lines``, each with ``name``, ``steps`` and ``values``.
    """
    losses = [line(LOSSES[name], curves[name]) for name in LOSSES if name in curves]
    shown = [{"title": "Loss", "lines": losses}] if losses else []
    return shown + [
        {"title": TITLES.get(name, name), "lines": [line(name, points)]}
        for name, points in curves.items()
        if name not in LOSSES
    ]


def line(name: str, points: Curve) -> dict[str, Any]:
    """One line of a chart, thinned to `POINTS`, denser at the beginning as its axis is."""
    kept = np.unique(np.geomspace(1, len(points), POINTS).round().astype(int)) - 1
    return {
        "name": name,
        "steps": [points[index][0] for index in kept],
        "values": [float(f"{points[index][1]:.5g}") for index in kept],
    }
