"""Metrics of anomaly detection, thresholds and tests for drift."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from occ_lab.metrics.calibration import Calibration
    from occ_lab.metrics.evaluation import Evaluation
    from occ_lab.metrics.image import ImageAP, ImageAUROC, ImageF1Max
    from occ_lab.metrics.pixel import (
        PixelAP,
        PixelAUPIMO,
        PixelAUPRO,
        PixelAUROC,
        PixelF1Max,
    )
    from occ_lab.metrics.segmentation import PixelSegF1

__all__ = [
    "Calibration",
    "Evaluation",
    "ImageAP",
    "ImageAUROC",
    "ImageF1Max",
    "PixelAP",
    "PixelAUPIMO",
    "PixelAUPRO",
    "PixelAUROC",
    "PixelF1Max",
    "PixelSegF1",
]

_MODULES = {
    "Calibration": "calibration",
    "Evaluation": "evaluation",
    "ImageAP": "image",
    "ImageAUROC": "image",
    "ImageF1Max": "image",
    "PixelAP": "pixel",
    "PixelAUPIMO": "pixel",
    "PixelAUPRO": "pixel",
    "PixelAUROC": "pixel",
    "PixelF1Max": "pixel",
    "PixelSegF1": "segmentation",
}


def __getattr__(name: str) -> Any:
    """Import a class on first use, because torchmetrics takes a second to import."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
