"""OCC Lab: one-class classification and visual anomaly detection.

    import lightning as L, occ_lab

    data = occ_lab.data.MVTecAD(root="data/mvtec", category="transistor")
    detector = occ_lab.Detector(objective=occ_lab.objectives.CFA())
    trainer = L.Trainer(max_epochs=1)
    trainer.fit(detector, datamodule=data)
    trainer.test(detector, datamodule=data)

Everything is imported on first use, because importing torch takes seconds.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from occ_lab import backbones, data, metrics, objectives, postprocessing, projectors
    from occ_lab.detector import Detector
    from occ_lab.engine.api import FitResult, fit
    from occ_lab.engine.calibrate import CalibrationPlan
    from occ_lab.engine.live import Stream
    from occ_lab.engine.stream_plan import StreamPlan
    from occ_lab.engine.verdict import Verdict
    from occ_lab.inference.predictor import Predictor, load
    from occ_lab.postprocessing.prediction import Prediction
    from occ_lab.utils.errors import InputError

    __version__: str

_HOMES = {
    "CalibrationPlan": "occ_lab.engine.calibrate",
    "Detector": "occ_lab.detector",
    "FitResult": "occ_lab.engine.api",
    "InputError": "occ_lab.utils.errors",
    "Prediction": "occ_lab.postprocessing.prediction",
    "Predictor": "occ_lab.inference.predictor",
    "Stream": "occ_lab.engine.live",
    "StreamPlan": "occ_lab.engine.stream_plan",
    "Verdict": "occ_lab.engine.verdict",
    "fit": "occ_lab.engine.api",
    "load": "occ_lab.inference.predictor",
}
_ROOMS = ("backbones", "data", "metrics", "objectives", "postprocessing", "projectors")

__all__ = [
    "CalibrationPlan",
    "Detector",
    "FitResult",
    "InputError",
    "Prediction",
    "Predictor",
    "Stream",
    "StreamPlan",
    "Verdict",
    "__version__",
    "backbones",
    "data",
    "fit",
    "load",
    "metrics",
    "objectives",
    "postprocessing",
    "projectors",
]


def __getattr__(name: str) -> Any:
    """Import a name of the public API on first use.

    The version is that of the installed package, which comes from git's tags.
    """
    if name == "__version__":
        return importlib.import_module("occ_lab.utils.version").installed_version()
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    if name in _ROOMS:
        return importlib.import_module(f"occ_lab.{name}")
    raise AttributeError(f"module 'occ_lab' has no attribute {name!r}")
