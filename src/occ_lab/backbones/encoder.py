"""The network that stage 1 of two-stage one-class classification trains from scratch."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import timm
import torch
import torch.nn.functional as F
from timm.models import ResNet
from torch import Tensor, nn

from occ_lab.utils.errors import check_number

SMALL = 64  # pixels a side up to which the stem keeps the resolution


class Encoder(nn.Module):
    """A ResNet, and on its pooled features a perceptron that the training task works on.

    As in the code of Sohn et al. 2021 (arXiv 2011.02578): for images of at most 64 pixels a side
    the first convolution is 3 × 3 with stride 1 and no max-pooling follows; every layer of the
    head but the last is linear without bias, batch-norm, ReLU.

    Args:
        model: timm's name of a ResNet.
        side: of the images or patches in pixels, at least 8.
        head: width of each layer of the perceptron; the last one is linear.
        classes: of a linear classifier on the head's output; 0 has none.

    Attributes:
        side: of the images or patches in pixels.
        width: channels of the pooled features.

    Raises:
        ValueError: an argument is out of range; the message begins with its name.
    """

    def __init__(
        self,
        model: str = "resnet18",
        side: int = 32,
        head: Sequence[int] = (512, 512, 512, 512, 512, 512, 512, 512, 128),
        classes: int = 0,
    ) -> None:
        check_number("side", side, at_least=8, integer=True)
        if not head:
            raise ValueError("head must name the width of at least one layer, got []")
        for width in head:
            check_number("head", width, at_least=1, integer=True)
        check_number("classes", classes, at_least=0, integer=True)
        super().__init__()
        self.facts = {"model": model, "side": side, "head": list(head), "classes": classes}
        self.side = side
        self.net = residual_network(model, small=side <= SMALL)
        self.net.to(memory_format=torch.channels_last)  # convolutions on CPU take half the time
        self.width: int = self.net.num_features
        self.hidden = nn.Sequential(
            *(
                nn.Sequential(nn.Linear(inputs, outputs, bias=False), nn.BatchNorm1d(outputs))
                for inputs, outputs in itertools.pairwise([self.width, *head[:-1]])
            )
        )
        last = [self.width, *head][-2]
        self.embedding = nn.Linear(last, head[-1], bias=classes > 0)
        self.classifier = nn.Linear(head[-1], classes) if classes else None

    def forward(self, image: Tensor) -> Tensor:
        """The head's output ``[B, head[-1]]`` for images ``[B, 3, h, w]`` in 0..1."""
        return self.head(self.pooled(image))

    def pooled(self, image: Tensor) -> Tensor:
        """The pooled features ``[B, width]`` of images ``[B, 3, h, w]`` in 0..1."""
        return self.net(image.contiguous(memory_format=torch.channels_last))

    def head(self, pooled: Tensor) -> Tensor:
        """The head's output ``[B, head[-1]]`` for pooled features ``[B, width]``."""
        for layer in self.hidden:
            pooled = F.relu(layer(pooled))
        return self.embedding(pooled)

    def classify(self, image: Tensor) -> Tensor:
        """Logits ``[B, classes]`` of images ``[B, 3, h, w]`` in 0..1."""
        assert self.classifier is not None
        return self.classifier(self(image))


def turned(image: Tensor, turns: int) -> Tensor:
    """Images ``[B, 3, h, w]`` after so many quarter turns: what a classifier of turns learns."""
    return torch.rot90(image, turns, dims=(-2, -1))


def residual_network(model: str, small: bool) -> Any:
    """Timm's ResNet without its classifier, with random weights; ``small``: with a small stem."""
    if model not in timm.list_models("*res*"):
        raise ValueError(f"model must be timm's name of a ResNet such as resnet18, got {model!r}")
    net: Any = timm.create_model(model, num_classes=0)
    if not isinstance(net, ResNet) or not isinstance(net.conv1, nn.Conv2d):
        raise ValueError(f"model must be timm's name of a ResNet such as resnet18, got {model!r}")
    return with_small_stem(net) if small else net


def with_small_stem(net: Any) -> Any:
    """The ResNet with a first convolution that keeps the resolution, and no max-pooling."""
    net.conv1 = nn.Conv2d(3, net.conv1.out_channels, 3, padding=1, bias=False)
    nn.init.kaiming_normal_(net.conv1.weight, mode="fan_out", nonlinearity="relu")
    net.maxpool = nn.Identity()
    for level in net.feature_info:
        level["reduction"] = max(1, level["reduction"] // 4)
    return net
