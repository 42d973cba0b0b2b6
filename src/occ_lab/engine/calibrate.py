"""The threshold of a detector, from normal images that it was not trained on."""

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

FOLDS = 5  # the default for a user's own images
CALIBRATION = "calibration.json"  # in the folder of a task
MOST = 0.9  # the largest fraction of the training images that can be held out
ALARM = 0.01  # false-alarm rate of the test that compares normal test and calibration images


@dataclass(frozen=True)
class CalibrationPlan:
    """The choice of normal images for the threshold.

    Args:
        share: the fraction of the training images that is held out (split-conformal), in 0..0.9; 0
            turns it off.
        folds: the number of folds that the training images are divided into, each held out in turn
            (cross-fitted); 0 turns it off. ``auto`` is five folds for a user's own images, unless
            ``share`` is given or the benchmark keeps validation images apart, and off for other
            published benchmarks.
        overkill: the false-positive rate that the threshold should keep, above 0 and at most 0.5.
            None is 1 %, or the smallest rate that the number of images can guarantee.
        seed: the seed of the choice of images.

    Raises:
        ValueError: a value is out of range, or both ways are chosen; the message begins with the
            name of the argument.

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
        """Whether a calibration is requested for any kind of images."""
        return bool(self.share or self.folds not in (0, "auto"))

    @property
    def left_open(self) -> bool:
        """Whether images that the benchmark keeps apart give the threshold, if there are any."""
        return self.folds == "auto" and not self.share

    def settled(self, images: int, own: bool, kept: int = 0) -> CalibrationPlan:
        """The plan for a given number of training images, with folds and rate filled in.

        Args:
            images: the number of training images.
            own: whether they are a user's own images, which are calibrated by default.
            kept: the number of images that the benchmark keeps apart; if there are any, no training
                image is held out.

        Raises:
            InputError: the benchmark keeps too few images for the rate.
        """
        folds = self.folds
        if folds == "auto":
            by_default = own and not kept and not self.share and images > 1
            folds = min(FOLDS, images) if by_default else 0
        plan = replace(self, folds=folds)
        if not plan.wanted and not kept:
            return plan
        count = plan._count(images) if plan.wanted else kept
        if self.overkill is None:
            return replace(plan, overkill=max(RATE, smallest_rate(max(1, count))))
        if not plan.wanted and kept < fewest(self.overkill):
            raise InputError(
                f"overkill: {self.overkill:g} needs at least {fewest(self.overkill)} images to "
                f"calibrate on, and the benchmark keeps {kept} apart. They can keep a rate of "
                f"{rounded_up(smallest_rate(kept)):g}; or hold out training images with folds or "
                "share",
                part="calibration",
            )
        return plan

    def held_out(self, images: int) -> list[list[int]]:
        """Indices of the training images to hold out: one part, or one part for each fold.

        Args:
            images: the number of training images.

        Raises:
            InputError: too few images would be left to train on, or too few would be held out for
                the false-positive rate.
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
        """The number of images that the threshold is based on."""
        return images if self.folds not in (0, "auto") else round(self.share * images)

    def _advice(self, images: int, needed: int) -> str:
        """Advice for a user with too few images for the rate."""
        folds = min(FOLDS, images)
        if folds < 2:
            return "Give more training images"
        if needed > images:
            rate = rounded_up(smallest_rate(images))
            return f"{images} images can keep a rate of {rate:g} or higher, with folds={folds}"
        larger = math.ceil(100 * needed / images) / 100
        by_share = f"Hold out share={larger:g}, or use" if larger <= MOST else "Use"
        return f"{by_share} folds={folds}, which makes all of them count"


def figures_of(
    calibration: Calibration, overkill: float, scores: Tensor, labels: Tensor
) -> dict[str, Any]:
    """The effect of the threshold on the test images.

    Args:
        calibration: the calibration of the detector.
        overkill: the requested false-positive rate.
        scores: image scores ``[N]``.
        labels: ``[N]``, 1 anomalous.

    Returns:
        ``images``, the number of calibration images; ``threshold``; ``segmentation``, that of the
        pixels for `PixelSegF1`; ``asked``, the requested rate;
        ``overkill``, the fraction of normal test images above the threshold; ``escape``, the
        fraction of anomalous test images not above it; ``drift``, the p-value of the test that the
        normal test images score no higher than the calibration images.
    """
    above = calibration.anomalous(scores, overkill)
    normal = labels == 0
    there = scores[normal].cpu().double()
    tested = drift(
        there[there.isfinite()].numpy(), calibration.scores.numpy(), max(2, len(there)), ALARM
    )
    return {
        "images": len(calibration.scores),
        "threshold": calibration.threshold(overkill),
        "segmentation": calibration.segmentation,
        "asked": overkill,
        "overkill": float(above[normal].double().mean()) if normal.any() else None,
        "escape": float((~above[~normal]).double().mean()) if (~normal).any() else None,
        "drift": tested.p_value if normal.any() else None,
    }


def write_calibration(path: Path, calibration: Calibration, overkill: float) -> None:
    """Write a calibration that `read_calibration` can read."""
    content = {
        "overkill": overkill,
        "scores": calibration.scores.tolist(),
        "peaks": calibration.peaks.tolist(),
    }
    write_whole(path, to_json(content))


def read_calibration(path: Path) -> tuple[Calibration | None, float | None]:
    """The calibration in a file and its false-positive rate, each None if missing.

    Raises:
        InputError: the file is damaged.
    """
    if not path.is_file():
        return None, None
    content = read_json(path, "run")
    try:
        scores, peaks = (torch.tensor(content[name]).double() for name in ("scores", "peaks"))
        rate = content.get("overkill")  # earlier versions store it only in the settings
        if scores.ndim != 1 or scores.shape != peaks.shape or not len(scores):
            shapes = f"{list(scores.shape)} and {list(peaks.shape)}"
            raise ValueError(f"scores and peaks must be as many numbers, at least 1, got {shapes}")
        if rate is not None:
            check_number("overkill", rate, above=0, at_most=1)
        return Calibration.of(scores, peaks), None if rate is None else float(rate)
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        said = f"{type(error).__name__}: {error}"
        raise InputError(f"{path} holds no calibration ({said})", part="run") from error
