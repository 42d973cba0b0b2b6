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


# Presets of transformers that differ from the small ones in size alone, up to 27 GB: their depth,
# width and number of prefix tokens.
LARGE = {
    "dinov2_small_reg": (12, 384, 5),
    "dinov2_base": (12, 768, 1),
    "dinov2_base_reg": (12, 768, 5),
    "dinov2_large": (24, 1024, 1),
    "dinov2_large_reg": (24, 1024, 5),
    "dinov2_giant": (40, 1536, 1),
    "dinov2_giant_reg": (40, 1536, 5),
    "dinov3_base": (12, 768, 5),
    "dinov3_large": (24, 1024, 5),
    "dinov3_huge": (32, 1280, 5),
    "dinov3_7b": (40, 4096, 5),
}
