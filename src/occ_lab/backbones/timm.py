"""Models of timm as frozen backbones."""

from __future__ import annotations

import difflib
import itertools
import math
from collections.abc import Sequence
from typing import Any, Literal

import timm
import torch
import torch.nn.functional as F
from timm.layers.conv2d_same import Conv2dSame
from timm.layers.norm_act import BatchNormAct2d
from timm.models import EfficientNet, ResNet
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from occ_lab.backbones.base import FrozenBackbone, Precision
from occ_lab.backbones.weights import hub_file, load_weights
from occ_lab.utils.errors import InputError

Output = Literal["levels", "pooled"]
Combine = Literal["levels", "mean"]


class TimmBackbone(FrozenBackbone):
    """A timm model as a frozen feature extractor: several levels, or one pooled embedding.

    Layers after the last level are dropped.

    Args:
        model: the name of the model in timm, with the tag of its pretrained weights if there are
            several.
        weights: ``package``, ``hub``, ``random`` or a file, see
            `occ_lab.backbones.weights.load_weights`.
        output: ``levels`` (structured tasks), or ``pooled`` (semantic tasks): the input of the
            model's classifier, such as the class token or the mean.
        strides: the levels of a convolutional network, given by their strides in pixels of the
            image. If several layers have the same stride, the last one is the level.
        blocks: the levels of a vision transformer, all of which have the stride of its patches: the
            patch tokens after these blocks, counted from 0. None takes the last block of each
            quarter of the depth, as in DINOv2's own dense heads (Oquab et al. 2023).
        combine: what becomes of these blocks: ``levels``, each is a level; or ``mean``, their mean
            is the only level, as in SubspaceAD (Lendering et al. 2026).
        final_norm: whether the network's last norm layer is applied to the tokens of each block, as
            in AnomalyDINO (Damm et al. 2025). Only a vision transformer has it.
        pool: the side, in positions, of the window that levels are averaged over with stride 1: 3
            in CFA (Lee et al. 2022) and NoCo (Gao et al. 2023); 1 turns it off.
        seed: the seed of the initial weights if ``weights`` is ``random``; torch's global generator
            is not used.
        precision: see `FrozenBackbone`.
        joined: for an EfficientNet, the number of last blocks of each level's stage that are
            concatenated. Each level is then divided by its number of channels, as in the code of
            CFA ([5, 3, 1] for B5). None takes the last block, undivided.
        name: its name in results; by default ``model``.

    Attributes:
        layers: the indices of the levels among the model's layers or blocks.
        patch: the side of a transformer's patches in pixels; None for a convolutional network.

    Raises:
        ValueError: an argument is out of range; the message begins with its name.
        InputError: the weights cannot be found, or do not fit the model.

    Example:
        >>> backbone = TimmBackbone("resnet10t", weights="random", strides=[4, 8])
        >>> backbone.channels
        [64, 128]
        >>> [level.shape for level in backbone(torch.rand(2, 3, 64, 64))]
        [torch.Size([2, 64, 16, 16]), torch.Size([2, 128, 8, 8])]
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        model: str,
        weights: str = "hub",
        output: Output = "levels",
        strides: Sequence[int] = (4, 8, 16),
        blocks: Sequence[int] | None = None,
        combine: Combine = "levels",
        final_norm: bool = False,
        pool: int = 3,
        seed: int = 0,
        precision: Precision = "float32",
        joined: Sequence[int] | None = None,
        name: str = "",
    ) -> None:
        super().__init__(name or model, precision)
        if output not in ("levels", "pooled"):
            raise ValueError(f"output must be levels or pooled, got {output!r}")
        if joined is not None and (len(joined) != len(strides) or min(joined) < 1):
            raise ValueError(f"joined must be None, or a count for each stride, got {list(joined)}")
        if combine not in ("levels", "mean"):
            raise ValueError(f"combine must be levels or mean, got {combine!r}")
        if pool < 1 or pool % 2 == 0:
            raise ValueError(f"pool must be odd and at least 1, got {pool}")
        if weights == "hub":
            with torch.device("meta"):  # the largest networks take minutes to create
                hub_file(timm_model(model, seed))
        net = timm_model(model, seed)
        reductions = [layer["reduction"] for layer in net.feature_info]
        self.output = output
        self.pool = pool
        # the blocks of a transformer share one stride, the side of its patches
        self.patch: int | None = reductions[0] if len(set(reductions)) == 1 else None
        self.multiple = self.patch or self.multiple
        self.layers: list[int] = []  # the indices of the levels among the model's layers
        self.channels: list[int] = [net.head_hidden_size]
        if output == "levels":
            self.layers = (
                choose_strides(strides, blocks, reductions)
                if self.patch is None
                else choose_blocks(blocks, len(reductions))
            )
            self.channels = [net.feature_info[level]["num_chs"] for level in self.layers]
        for option, given in (("combine", combine != "levels"), ("final_norm", final_norm)):
            if given and self.patch is None:
                raise ValueError(f"{option} must be left out: this is not a vision transformer")
        self.averaged = combine == "mean" and output == "levels"
        self.final_norm = final_norm and output == "levels"
        if self.averaged:
            self.channels = self.channels[:1]
        self.joined = None if joined is None or output == "pooled" else list(joined)
        if self.joined:
            if not isinstance(net, EfficientNet):
                raise ValueError("joined must be None: only an EfficientNet has such blocks")
            self.channels = [
                count * width for count, width in zip(self.joined, self.channels, strict=True)
            ]
        load_weights(net, weights)
        if output == "levels":
            net.prune_intermediate_layers(self.layers, prune_norm=not final_norm)
        for statistic in ("mean", "std"):
            value = torch.tensor(net.pretrained_cfg[statistic])[:, None, None]
            self.register_buffer(statistic, value, persistent=False)
        facts = [model, output, self.layers, pool if output == "levels" else None, precision]
        facts += [self.joined] if self.joined else []
        facts += ["mean"] if self.averaged else []
        facts += ["final norm"] if self.final_norm else []
        self.net: Any = net
        self._identify(TimmBackbone, "net", *facts, self.mean.tolist(), self.std.tolist())
        fold_batch_norm(net)
        net.to(memory_format=torch.channels_last)  # convolutions on CPU take half the time

    def levels(self, image: Tensor) -> list[Tensor]:
        """Compute the levels, see `Backbone.forward`."""
        image = (image - self.mean) / self.std
        if self.output == "pooled":
            return [self.net(image)[:, :, None, None]]
        if self.joined:
            levels = self._joined_blocks(image, self.joined)
        else:
            norm = {"norm": True} if self.final_norm else {}  # some networks know no such argument
            levels = self.net.forward_intermediates(
                image, indices=self.layers, stop_early=True, intermediates_only=True, **norm
            )
        if self.averaged:
            levels = [torch.stack(levels).mean(dim=0)]
        if self.pool == 1:
            return levels
        return [F.avg_pool2d(level, self.pool, 1, self.pool // 2) for level in levels]

    def _joined_blocks(self, image: Tensor, counts: Sequence[int]) -> list[Tensor]:
        """The last blocks of each level's stage, concatenated and divided by their channels."""
        wanted = [self.net.feature_info[level]["module"] for level in self.layers]
        x = self.net.bn1(self.net.conv_stem(image))
        levels: list[Tensor] = []
        for index, stage in enumerate(self.net.blocks):
            outputs = []
            for block in stage:
                x = block(x)
                outputs.append(x)
            if f"blocks.{index}" in wanted:
                level = torch.cat(outputs[-counts[len(levels)] :], dim=1)
                levels.append(level / level.shape[1])
        return levels

    def check_size(self, height: int, width: int) -> None:
        """Raise an ``InputError`` if the sides are not multiples of a transformer's patches."""
        if self.patch is None or height % self.patch == width % self.patch == 0:
            return
        sides = sorted({max(side // self.patch, 1) * self.patch for side in (height, width)})
        raise InputError(
            f"images of {height}x{width} px cannot be cut into the {self.patch}x{self.patch} px "
            f"patches of the backbone {self.name}: their sides must be multiples of {self.patch}, "
            f"such as {' or '.join(f'{side}, {side + self.patch}' for side in sides)}",
            part="backbone",
        )


def timm_model(model: str, seed: int) -> Any:
    """The timm model without its classifier, with random weights.

    Args:
        model: its name in timm.
        seed: the seed of the weights; torch's global generator is not used.

    Raises:
        ValueError: timm has no such model, or no such weights for it.
    """
    if not timm.is_model(model):
        close = difflib.get_close_matches(model.split(".")[0], timm.list_models(), n=5)
        hint = f"close: {', '.join(close)}" if close else "timm.list_models() lists them"
        raise ValueError(f"model must be the name of a timm model, got {model!r} ({hint})")
    architecture = model.split(".")[0]
    tagged = timm.list_pretrained(f"{architecture}.*")
    if model not in (architecture, *tagged):
        raise ValueError(
            f"model must end in a tag of {architecture}'s weights, got {model!r} "
            f"(there are: {', '.join(tagged)})"
        )
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        try:
            # transformers with a resizable position embedding take any size of image
            return timm.create_model(model, num_classes=0, dynamic_img_size=True)
        except TypeError:
            return timm.create_model(model, num_classes=0)


def choose_strides(
    strides: Sequence[int], blocks: Sequence[int] | None, reductions: list[int]
) -> list[int]:
    """Indices of the last layers that have these strides, finest first.

    Args:
        strides: the requested strides, in pixels of the image.
        blocks: must be None, because the model is not a transformer.
        reductions: the stride of each layer.

    Raises:
        ValueError: no layer has such a stride.

    Example:
        >>> choose_strides([8, 4], None, [2, 4, 8, 8, 16])
        [1, 3]
    """
    if blocks is not None:
        raise ValueError("blocks must be None: this is not a vision transformer; set strides")
    lacking = sorted(set(strides) - set(reductions))
    if not strides or lacking:
        raise ValueError(
            f"strides must be some of {sorted(set(reductions))}, which the model has, "
            f"got {list(strides)}"
        )
    last = {reduction: level for level, reduction in enumerate(reductions)}
    return [last[stride] for stride in sorted(set(strides))]


def choose_blocks(blocks: Sequence[int] | None, depth: int) -> list[int]:
    """Indices of blocks of a transformer; by default, the last of each quarter of its depth.

    Args:
        blocks: the requested indices, in any order.
        depth: the number of blocks.

    Raises:
        ValueError: an index is out of range.

    Example:
        >>> choose_blocks(None, 12)
        [2, 5, 8, 11]
    """
    if blocks is None:
        return sorted({math.ceil(depth * quarter / 4) - 1 for quarter in (1, 2, 3, 4)})
    if not blocks or not all(0 <= block < depth for block in blocks):
        raise ValueError(
            f"blocks must be some of 0..{depth - 1}, which the model has, got {list(blocks)}"
        )
    return sorted(set(blocks))


def fold_batch_norm(net: nn.Module) -> None:
    """Fold each batch-norm of a ResNet or EfficientNet into the convolution right before it.

    In eval mode a batch-norm is a fixed scale and shift of each channel, which the convolution can
    apply itself. The output is the same and takes a third less time on a CPU with
    EfficientNet-Lite0. In other families (RepViT) a batch-norm may be listed after a convolution
    without taking its output.

    Args:
        net: the network; it is put into eval mode and changed in place.
    """
    if not isinstance(net, EfficientNet | ResNet):
        return
    net.eval()
    for parent in list(net.modules()):
        children: list[tuple[str, Any]] = list(parent.named_children())
        for (before, conv), (name, norm) in itertools.pairwise(children):
            # exact types, because variants that standardise weights or split the batch cannot fold
            if type(conv) in (nn.Conv2d, Conv2dSame) and type(norm) in (
                nn.BatchNorm2d,
                BatchNormAct2d,
            ):
                setattr(parent, before, fuse_conv_bn_eval(conv, norm))
                setattr(parent, name, getattr(norm, "act", nn.Identity()))
