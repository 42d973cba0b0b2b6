"""A detector's threshold, from normal images that it was not trained on."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from occ_lab.metrics.calibration import Calibration, fewest
from occ_lab.reporting.record import to_json
from occ_lab.utils.errors import InputError, check_number
from occ_lab.utils.files import write_whole


@dataclass(frozen=True)
class CalibrationPlan:
    """Which normal images a threshold comes from.

    Args:
        share: fraction of the training images that is held out for it (split-conformal), in
            0..0.9; 0 is off.
        folds: into how many folds all training images are divided, each held out in turn
            (cross-fitted); 0 is off.
        overkill: the false-positive rate that the threshold is to keep, above 0 and at most 0.5.
        seed: of the choice of images.

    Raises:
        ValueError: a value out of range, or two ways at once; the message begins with its name.

    Example:
        >>> CalibrationPlan(folds=3, overkill=0.25).held_out(6)
        [[3, 2], [5, 4], [0, 1]]
    """

    share: float = 0.0
    folds: int = 0
    overkill: float = 0.01
    seed: int = 0

    def __post_init__(self) -> None:
        check_number("share", self.share, at_least=0, at_most=0.9)
        check_number("folds", self.folds, at_least=0, integer=True)
        check_number("overkill", self.overkill, above=0, at_most=0.5)
        if self.folds == 1 or (self.folds and self.share):
            raise InputError(
                "set share (split-conformal), or folds of at least 2 (cross-fitted), "
                f"got share={self.share} folds={self.folds}",
                part="calibration",
            )

    @property
    def wanted(self) -> bool:
        """Whether there is anything to do."""
        return bool(self.share or self.folds)

    def held_out(self, images: int) -> list[list[int]]:
        """Indices of the training images that are held out: one part, or one for each fold.

        Args:
            images: how many training images there are.

        Raises:
            InputError: too few would be left, or too few held out for the false-positive rate.
        """
        if not self.wanted:
            return []
        order = np.random.default_rng(self.seed).permutation(images)
        count = images if self.folds else round(self.share * images)
        needed = fewest(self.overkill)
        if count < needed:
            way = "folds" if self.folds else f"share={self.share:g}"
            raise InputError(
                f"overkill: {self.overkill:g} needs at least {needed} images to calibrate on; "
                f"{way} gives {count} of {images}. {self._advice(images)}",
                part="calibration",
            )
        parts = np.array_split(order, self.folds) if self.folds else [order[:count]]
        if len(parts[0]) >= images or not len(parts[-1]):
            raise InputError(
                f"folds: {images} training images are too few for {len(parts)} folds",
                part="calibration",
            )
        return [part.tolist() for part in parts]

    def _advice(self, images: int) -> str:
        """What a user can do where there are too few images for the rate."""
        least = 1 / (images + 1)
        enough = fewest(self.overkill) <= images
        if enough and not self.folds:
            return "Hold out a larger share, or use folds=5, by which all of them count"
        return f"So many images can keep a rate of {least:.2g} or higher, with folds=5"


def figures_of(
    calibration: Calibration, overkill: float, scores: Tensor, labels: Tensor
) -> dict[str, Any]:
    """What the threshold does on the test images.

    Args:
        calibration: of the detector.
        overkill: the false-positive rate asked for.
        scores: image scores ``[N]``.
        labels: ``[N]``, 1 anomalous.

    Returns:
        ``images``, how many it was calibrated on; ``threshold``; ``asked`` and ``overkill``, the
        fraction of normal test images above it; ``escape``, that of anomalous ones not above it.
    """
    threshold = calibration.threshold(overkill)
    above = scores.double() > threshold
    normal = labels == 0
    return {
        "images": len(calibration.scores),
        "threshold": threshold,
        "asked": overkill,
        "overkill": float(above[normal].double().mean()) if normal.any() else None,
        "escape": float((~above[~normal]).double().mean()) if (~normal).any() else None,
    }


def write_calibration(path: Path, calibration: Calibration) -> None:
    """Write what `read_calibration` reads."""
    content = {"scores": calibration.scores.tolist(), "peaks": calibration.peaks.tolist()}
    write_whole(path, to_json(content))


def read_calibration(path: Path) -> Calibration | None:
    """The calibration in a file, if there is one."""
    if not path.is_file():
        return None
    content = json.loads(path.read_text(encoding="utf-8"))
    scores, peaks = (torch.tensor(content[name]).double() for name in ("scores", "peaks"))
    return Calibration.of(scores, peaks)
