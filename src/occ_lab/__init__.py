"""OCC Lab: one-class classification and visual anomaly detection."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from occ_lab.inference.predictor import load

__all__ = ["__version__", "load"]

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """``occ_lab.load``, imported when it is used: it takes torch, which takes seconds."""
    if name != "load":
        raise AttributeError(f"module 'occ_lab' has no attribute {name!r}")
    from occ_lab.inference.predictor import load

    return load
