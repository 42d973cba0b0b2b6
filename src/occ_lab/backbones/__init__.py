"""Networks that turn images into feature maps."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from occ_lab.backbones.base import Backbone, FrozenBackbone
    from occ_lab.backbones.learned import LearnedBackbone
    from occ_lab.backbones.lenet import LeNet
    from occ_lab.backbones.presets import create
    from occ_lab.backbones.timm import TimmBackbone

__all__ = [
    "Backbone",
    "FrozenBackbone",
    "LeNet",
    "LearnedBackbone",
    "TimmBackbone",
    "create",
]

_MODULES = {
    "Backbone": "base",
    "FrozenBackbone": "base",
    "LeNet": "lenet",
    "LearnedBackbone": "learned",
    "TimmBackbone": "timm",
    "create": "presets",
}


def __getattr__(name: str) -> Any:
    """Import a class on first use, because torch and timm take seconds to import."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
