"""The network that is trained from scratch in stage 1 of two-stage one-class classification."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any, Literal, get_args

import timm
import torch
import torch.nn.functional as F
from timm.models import ResNet
from torch import Tensor, nn

from occ_lab.utils.errors import check_number

Init = Literal["timm", "keras"]
DEEPEST, WIDEST, LARGEST_SIDE = 64, 2**16, 10_000  # limits for files from untrusted sources
WITHIN_TWO = 0.87962566103423978  # deviation of a standard normal cut off at ±2
SMALL = 64  # pixels; up to this side the stem keeps the resolution


class Encoder(nn.Module):
    """A ResNet with a multilayer perceptron (the head) on its pooled features.

    As in the code of Sohn et al. 2021 (arXiv 2011.02578), the first convolution for images of up to
    64 pixels a side is 3 × 3 with stride 1, and there is no max-pooling. Each layer of the head
    except the last is a linear layer without bias, batch-norm and ReLU. The weights are drawn from
    torch's global generator.

    Args:
        model: the name of a ResNet in timm.
        side: height and width of the images or patches in pixels, at least 8.
        head: the width of each layer of the head; the last layer is linear.
        classes: the number of classes of a linear classifier on the head's output; 0 for none.
        init: how the weights are drawn: ``timm``, or ``keras`` as in the code of the paper, see
            `drawn_as_published`.

    Attributes:
        side: height and width of the images or patches in pixels.
        width: the number of channels of the pooled features.

    Raises:
        ValueError: an argument is out of range; the message begins with its name.

    Example:
        >>> encoder = Encoder("resnet18", side=16, head=[64, 16], classes=4).eval()
        >>> encoder(torch.rand(2, 3, 16, 16)).shape
        torch.Size([2, 16])
        >>> encoder.classify(torch.rand(2, 3, 16, 16)).shape
        torch.Size([2, 4])
    """

    def __init__(
        self,
        model: str = "resnet18",
        side: int = 32,
        head: Sequence[int] = (512, 512, 512, 512, 512, 512, 512, 512, 128),
        classes: int = 0,
        init: Init = "timm",
    ) -> None:
        check_number("side", side, at_least=8, at_most=LARGEST_SIDE, integer=True)
        if not 1 <= len(head) <= DEEPEST:
            raise ValueError(
                f"head must name the widths of 1 to {DEEPEST} layers, got {len(head)} of them"
            )
        for width in head:
            check_number("head", width, at_least=1, at_most=WIDEST, integer=True)
        check_number("classes", classes, at_least=0, at_most=WIDEST, integer=True)
        if init not in get_args(Init):
            raise ValueError(f"init must be {' or '.join(get_args(Init))}, got {init!r}")
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
        if init == "keras":
            drawn_as_published(self)

    def forward(self, image: Tensor) -> Tensor:
        """The head's output ``[B, head[-1]]`` for images ``[B, 3, h, w]`` in 0..1."""
        return self.head(self.pooled(image))

    def pooled(self, image: Tensor) -> Tensor:
        """The pooled features ``[B, width]`` of images ``[B, 3, h, w]`` in 0..1."""
        pooled: Tensor = self.net(image.contiguous(memory_format=torch.channels_last))
        return pooled

    def head(self, pooled: Tensor) -> Tensor:
        """The head's output ``[B, head[-1]]`` for pooled features ``[B, width]``."""
        for layer in self.hidden:
            pooled = F.relu(layer(pooled))
        embedding: Tensor = self.embedding(pooled)
        return embedding

    def classify(self, image: Tensor) -> Tensor:
        """Logits ``[B, classes]`` of images ``[B, 3, h, w]`` in 0..1; needs a classifier."""
        assert self.classifier is not None
        logits: Tensor = self.classifier(self(image))
        return logits


@torch.no_grad()
def drawn_as_published(net: nn.Module) -> None:
    """Draw the weights as in the code of Sohn et al. 2021, by the rules of Keras.

    Convolutions: a normal distribution of variance 2 / (k² · output channels), cut off at two
    standard deviations before it is scaled to that variance. Linear layers: uniform (Glorot and
    Bengio 2010), and a bias of zero. Batch-norm: scale 1, shift 0, also in the last layer of a
    residual block, whose scale is 0 in timm.

    Args:
        net: it is changed in place.
    """
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d):
            fan_out = layer.out_channels * layer.kernel_size[0] * layer.kernel_size[1]
            deviation = math.sqrt(2 / fan_out) / WITHIN_TWO
            nn.init.trunc_normal_(layer.weight, std=deviation, a=-2 * deviation, b=2 * deviation)
        elif isinstance(layer, nn.Linear):
            nn.init.xavier_uniform_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        elif isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.ones_(layer.weight)
            nn.init.zeros_(layer.bias)


def turned(image: Tensor, turns: int) -> Tensor:
    """Images ``[B, 3, h, w]`` after a number of quarter turns, for a rotation classifier."""
    return torch.rot90(image, turns, dims=(-2, -1))


def residual_network(model: str, small: bool) -> Any:
    """A ResNet of timm without its classifier, with random weights.

    Args:
        model: its name in timm.
        small: whether its stem keeps the resolution.

    Raises:
        ValueError: timm has no such ResNet.
    """
    if model not in timm.list_models("*res*"):
        raise ValueError(
            f"model must be the name of a ResNet in timm such as resnet18, got {model!r}"
        )
    net: Any = timm.create_model(model, num_classes=0)
    if not isinstance(net, ResNet) or not isinstance(net.conv1, nn.Conv2d):
        raise ValueError(
            f"model must be the name of a ResNet in timm such as resnet18, got {model!r}"
        )
    return with_small_stem(net) if small else net


def with_small_stem(net: Any) -> Any:
    """Replace a ResNet's stem by a convolution that keeps the resolution, without max-pooling."""
    net.conv1 = nn.Conv2d(3, net.conv1.out_channels, 3, padding=1, bias=False)
    nn.init.kaiming_normal_(net.conv1.weight, mode="fan_out", nonlinearity="relu")
    net.maxpool = nn.Identity()
    for level in net.feature_info:
        level["reduction"] = max(1, level["reduction"] // 4)
    return net
