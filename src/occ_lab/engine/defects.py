"""The metrics of each kind of defect."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from occ_lab.data.items import Item
from occ_lab.metrics.curves import auroc
from occ_lab.metrics.evaluation import Evaluation


def kinds_of(items: Sequence[Item]) -> dict[str, list[int]]:
    """The indices of the images of each kind of defect, by name; empty below two kinds.

    Example:
        >>> from pathlib import Path
        >>> files = [("good/0.png", 0), ("hole/0.png", 1), ("crack/0.png", 1), ("hole/1.png", 1)]
        >>> kinds_of([Item(Path(name), label) for name, label in files])
        {'crack': [2], 'hole': [1, 3]}
    """
    found: dict[str, list[int]] = {}
    for index, item in enumerate(items):
        if item.kind:
            found.setdefault(item.kind, []).append(index)
    return dict(sorted(found.items())) if len(found) > 1 else {}


def pixels_by_kind(evaluation: Evaluation) -> dict[str, dict[str, float]]:
    """The pixel metrics of each kind, of an evaluation that has computed its metrics.

    Its groups are those of `kinds_of`.
    """
    return {kind: evaluation.pixels_of(kind) for kind in evaluation.groups}


def defect_figures(
    items: Sequence[Item],
    scores: np.ndarray,
    labels: np.ndarray,
    pixels: dict[str, dict[str, float]],
) -> dict[str, dict[str, Any]]:
    """For each kind the number of ``images``, and its metrics in 0..1.

    The image AUROC is that of the images of the kind against all normal ones.

    Args:
        items: the N test images.
        scores: ``[N]``.
        labels: ``[N]``, 1 anomalous.
        pixels: from `pixels_by_kind`.
    """
    figures = {}
    for kind, images in kinds_of(items).items():
        own = labels == 0
        own[images] = True
        found = auroc(scores[own], labels[own])
        figures[kind] = {
            "images": len(images),
            **({} if np.isnan(found) else {"image_auroc": found}),
            **pixels.get(kind, {}),
        }
    return figures
