"""The scores of a task's test images, and what was decided about each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from occ_lab.data.items import Item
from occ_lab.metrics.calibration import Calibration
from occ_lab.reporting.pictures import worst_first

COLUMNS = ("path", "task", "label", "defect_type", "score", "p_value", "decision")
NAMES = ("normal", "anomalous")  # of the labels and of the decisions


@dataclass(frozen=True)
class Predictions:
    """The test images of a task, in the order of the split.

    Args:
        task: the name of the task.
        items: the images.
        scores: their scores, float ``[N]``.
        labels: ``[N]``, 1 anomalous.
        calibration: gives threshold and p-values; None if there is none.
        overkill: the false-positive rate of the threshold; None without a calibration.
        pictures: heatmap pictures of the worst misses, the worst first.

    Example:
        >>> items = [Item(Path("good/1.png"), 0), Item(Path("cut/2.png"), 1)]
        >>> found = Predictions("bolt", items, np.array([1.0, 3.0]), np.array([0, 1]))
        >>> found.caption(1)
        'cut/2.png: score 3; anomalous'
        >>> [row["defect_type"] for row in found.rows(5)]
        ['cut', None]
    """

    task: str
    items: Sequence[Item]
    scores: np.ndarray
    labels: np.ndarray
    calibration: Calibration | None = None
    overkill: float | None = None
    pictures: Sequence[Path] = ()

    @property
    def threshold(self) -> float | None:
        """Images with higher scores are decided to be anomalous; None without a calibration."""
        if self.calibration is None or self.overkill is None:
            return None
        return self.calibration.threshold(self.overkill)

    @property
    def pictured(self) -> dict[int, Path]:
        """The pictures by the index of their image, the worst miss first."""
        order = worst_first(self.scores, self.labels).tolist()
        return dict(zip(order, self.pictures, strict=False))

    def decision(self, index: int) -> str | None:
        """``anomalous`` or ``normal``; None without a calibration."""
        if self.calibration is None or self.overkill is None:
            return None
        score = torch.tensor([self.scores[index]])
        return NAMES[bool(self.calibration.anomalous(score, self.overkill))]

    def caption(self, index: int) -> str:
        """File, score, threshold, label and decision of an image, in one line."""
        name = "/".join(Path(str(self.items[index])).parts[-2:])
        label = NAMES[int(self.labels[index])]
        if self.threshold is None:
            return f"{name}: score {self.scores[index]:.4g}; {label}"
        return (
            f"{name}: score {self.scores[index]:.4g}, threshold {self.threshold:.4g}; "
            f"{label}, decided {self.decision(index)}"
        )

    def rows(self, count: int) -> list[dict[str, Any]]:
        """At most ``count`` images, the worst misses first: `COLUMNS` and ``index``.

        ``defect_type`` is the name of the folder of an anomalous image. It is None for a normal
        image and for one of a file that holds many. ``p_value`` and ``decision`` are None without a
        calibration.
        """
        return [self._row(int(each)) for each in worst_first(self.scores, self.labels)[:count]]

    def _row(self, index: int) -> dict[str, Any]:
        item, p_value = self.items[index], None
        if self.calibration is not None:
            p_value = float(self.calibration.p_values(torch.tensor([self.scores[index]])))
        anomalous = bool(self.labels[index])
        return {
            "index": index,
            "path": str(item),
            "task": self.task,
            "label": NAMES[anomalous],
            "defect_type": item.path.parent.name if anomalous and item.index is None else None,
            "score": float(self.scores[index]),
            "p_value": p_value,
            "decision": self.decision(index),
        }
