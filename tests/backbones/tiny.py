"""A ResNet so small that a test of it takes no time, by a name of its own in timm."""

from __future__ import annotations

from typing import Any

from timm.models import register_model
from timm.models.resnet import BasicBlock, ResNet

TINY = "resnet_tiny"
WIDTH = 32  # channels of its pooled features


@register_model
def resnet_tiny(pretrained: bool = False, num_classes: int = 0, **_: Any) -> ResNet:
    """One block a stage, of few channels."""
    return ResNet(
        BasicBlock, (1, 1, 1, 1), channels=(16, 16, WIDTH, WIDTH), num_classes=num_classes
    )
