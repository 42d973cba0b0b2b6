"""A detector's threshold, from normal images that it was not trained on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig
from torch import Tensor

from occ_lab.config.composition import check_value
from occ_lab.metrics.calibration import Calibration, fewest
from occ_lab.reporting.record import to_json
from occ_lab.utils.errors import InputError
from occ_lab.utils.files import write_whole


def check_calibration(cfg: DictConfig) -> None:
    """Check what ``cfg.calibration`` asks for.

    Raises:
        InputError: a value out of range, or two ways to calibrate at once.
    """
    check_value(cfg, "calibration.share", at_least=0, at_most=0.9)
    check_value(cfg, "calibration.folds", at_least=0, integer=True)
    check_value(cfg, "calibration.overkill", above=0, at_most=0.5)
    share, folds = cfg.calibration.share, cfg.calibration.folds
    if folds == 1 or (folds and share):
        raise InputError(
            "calibration: set share (split-conformal), or folds of at least 2 (cross-fitted), "
            f"got share={share} folds={folds}"
        )
    if (share or folds) and cfg.ensemble is not None:
        raise InputError("calibration: an ensemble of views has no single detector to calibrate")


def held_out(cfg: DictConfig, images: int) -> list[list[int]]:
    """Places of the training images that are held out: one part, a fold each, or none.

    Args:
        cfg: with ``calibration`` and ``seed``.
        images: how many training images there are.

    Raises:
        InputError: too few would be left, or too few held out for the rate of false alarms.
    """
    share, folds = cfg.calibration.share, cfg.calibration.folds
    if not share and not folds:
        return []
    order = np.random.default_rng(cfg.seed).permutation(images)
    count = images if folds else round(share * images)
    needed = fewest(cfg.calibration.overkill)
    if count < needed:
        way = "folds" if folds else f"share={share:g}"
        raise InputError(
            f"calibration.overkill: {cfg.calibration.overkill:g} needs at least {needed} images to "
            f"calibrate on; {way} gives {count} of {images}. Take a larger share, "
            "calibration.folds=5 (all of them, cross-fitted), or a higher rate"
        )
    parts = np.array_split(order, folds) if folds else [order[:count]]
    if len(parts[0]) >= images or not len(parts[-1]):
        raise InputError(
            f"calibration: {images} training images are too few for {len(parts)} folds"
        )
    return [part.tolist() for part in parts]


def figures_of(
    calibration: Calibration, overkill: float, scores: Tensor, labels: Tensor
) -> dict[str, Any]:
    """What the threshold does on the test images.

    Args:
        calibration: of the detector.
        overkill: the rate of false alarms asked for.
        scores: image scores ``[N]``.
        labels: ``[N]``, 1 anomalous.

    Returns:
        ``images``, how many it was calibrated on; ``threshold``; ``asked`` and ``overkill``, the
        share of normal test images above it; ``escape``, the share of anomalous ones not above.
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
