"""A detector's threshold, from normal images that it was not trained on."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from occ_lab.metrics.calibration import (
    RATE,
    Calibration,
    fewest,
    rounded_up,
    smallest_rate,
)
from occ_lab.metrics.drift import drift
from occ_lab.reporting.record import to_json
from occ_lab.utils.errors import InputError, check_number
from occ_lab.utils.files import write_whole
from occ_lab.utils.plain import read_json

FOLDS = 5  # of a user's own images
CALIBRATION = "calibration.json"  # in the folder of a task
MOST = 0.9  # of the training images that can be held out
ALARM = 0.01  # false-alarm rate of the test whether normal test images look like the calibration's


@dataclass(frozen=True)
class CalibrationPlan:
    """Which normal images a threshold comes from.

    Args:
        share: fraction of the training images that is held out for it (split-conformal), in
            0..0.9; 0 is off.
        folds: into how many folds all training images are divided, each held out in turn
            (cross-fitted); 0 is off. ``auto`` is five folds for a user's own images, unless
            ``share`` is given, and off for a published benchmark.
        overkill: the false-positive rate that the threshold is to keep, above 0 and at most 0.5.
            None is 1 %, or the smallest rate that so many images can guarantee.
        seed: of the choice of images.

    Raises:
        ValueError: a value out of range, or two ways at once; the message begins with its name.

    Example:
        >>> CalibrationPlan(folds=3, overkill=0.25).held_out(6)
        [[3, 2], [5, 4], [0, 1]]
        >>> CalibrationPlan().settled(49, own=True)
        CalibrationPlan(share=0.0, folds=5, overkill=0.02, seed=0)
    """

    share: float = 0.0
    folds: int | Literal["auto"] = "auto"
    overkill: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        check_number("share", self.share, at_least=0, at_most=MOST)
        if self.folds != "auto":
            check_number("folds", self.folds, at_least=0, integer=True)
            if self.folds == 1 or (self.folds and self.share):
                raise InputError(
                    "set share (split-conformal), or folds of at least 2 (cross-fitted), "
                    f"got share={self.share} folds={self.folds}",
                    part="calibration",
                )
        if self.overkill is not None:
            check_number("overkill", self.overkill, above=0, at_most=0.5)

    @property
    def wanted(self) -> bool:
        """Whether there is anything to do, for any images."""
        return bool(self.share or self.folds not in (0, "auto"))

    def settled(self, images: int, own: bool) -> CalibrationPlan:
        """The plan for so many training images, with a number of folds and a rate.

        Args:
            images: how many training images there are.
            own: whether they are a user's own, which are calibrated without being asked to.
        """
        folds = self.folds
        if folds == "auto":
            folds = min(FOLDS, images) if own and not self.share and images > 1 else 0
        plan = replace(self, folds=folds)
        if self.overkill is not None or not plan.wanted:
            return plan
        return replace(plan, overkill=max(RATE, smallest_rate(max(1, plan._count(images)))))

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
        count = self._count(images)
        needed = 1 if self.overkill is None else fewest(self.overkill)
        if count < needed:
            way = "folds" if self.folds else f"share={self.share:g}"
            asked = "a threshold" if self.overkill is None else f"{self.overkill:g}"
            raise InputError(
                f"overkill: {asked} needs at least {needed} images to calibrate on; {way} gives "
                f"{count} of {images}. {self._advice(images, needed)}",
                part="calibration",
            )
        folds = 0 if self.folds == "auto" else self.folds
        parts = np.array_split(order, folds) if folds else [order[:count]]
        if len(parts[0]) >= images or not len(parts[-1]):
            raise InputError(
                f"folds: {images} training images are too few for {len(parts)} folds",
                part="calibration",
            )
        return [part.tolist() for part in parts]

    def _count(self, images: int) -> int:
        """How many images the threshold comes from."""
        return images if self.folds not in (0, "auto") else round(self.share * images)

    def _advice(self, images: int, needed: int) -> str:
        """What a user can do where there are too few images for the rate."""
        folds = min(FOLDS, images)
        if folds < 2:
            return "Give more training images"
        if needed > images:
            rate = rounded_up(smallest_rate(images))
            return f"So many images can keep a rate of {rate:g} or higher, with folds={folds}"
        larger = math.ceil(100 * needed / images) / 100
        by_share = f"Hold out share={larger:g}, or use" if larger <= MOST else "Use"
        return f"{by_share} folds={folds}, by which all of them count"


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
        fraction of normal test images above it; ``escape``, that of anomalous ones not above it;
        ``drift``, the p-value of the normal test images scoring no higher than those of the
        calibration.
    """
    above = calibration.anomalous(scores, overkill)
    normal = labels == 0
    there = scores[normal].double().cpu()
    tested = drift(
        there[there.isfinite()].numpy(), calibration.scores.numpy(), max(2, len(there)), ALARM
    )
    return {
        "images": len(calibration.scores),
        "threshold": calibration.threshold(overkill),
        "asked": overkill,
        "overkill": float(above[normal].double().mean()) if normal.any() else None,
        "escape": float((~above[~normal]).double().mean()) if (~normal).any() else None,
        "drift": tested.p_value if normal.any() else None,
    }


def write_calibration(path: Path, calibration: Calibration, overkill: float) -> None:
    """Write what `read_calibration` reads."""
    content = {
        "overkill": overkill,
        "scores": calibration.scores.tolist(),
        "peaks": calibration.peaks.tolist(),
    }
    write_whole(path, to_json(content))


def read_calibration(path: Path) -> tuple[Calibration | None, float | None]:
    """The calibration in a file and its false-positive rate, as far as there are any.

    Raises:
        InputError: the file is damaged.
    """
    if not path.is_file():
        return None, None
    content = read_json(path, "run")
    try:
        scores, peaks = (torch.tensor(content[name]).double() for name in ("scores", "peaks"))
        rate = content.get("overkill")  # earlier versions have it in the settings alone
        if scores.ndim != 1 or scores.shape != peaks.shape or not len(scores):
            shapes = f"{list(scores.shape)} and {list(peaks.shape)}"
            raise ValueError(f"scores and peaks must be as many numbers, at least 1, got {shapes}")
        if rate is not None:
            check_number("overkill", rate, above=0, at_most=1)
        return Calibration.of(scores, peaks), None if rate is None else float(rate)
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        said = f"{type(error).__name__}: {error}"
        raise InputError(f"{path} holds no calibration ({said})", part="run") from error
