"""What every network whose features are used, and not trained, offers."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

Precision = Literal["float32", "bfloat16", "float16"]


class Frozen(nn.Module, ABC):
    """A feature extractor: several levels, or one embedding of the whole image.

    The parameters need no gradient and the module stays in eval mode whatever ``train`` says.

    Args:
        name: what it is called in results.
        output: ``levels`` (maps), or what makes one embedding of an image.
        precision: what the network computes in: ``float32``, or by autocast ``bfloat16`` or
            ``float16``, which GPUs are faster with; features then differ by some 1e-2 or 1e-3.

    Attributes:
        trained: whether the method trains it: no.
        channels: channels of each level.
        identity: hex digest of the weights and of all else that decides what ``forward`` returns.
            Two of one identity have the same features: a cache key.

    Raises:
        ValueError: an unknown precision.
    """

    trained = False
    channels: list[int]
    identity: str

    def __init__(self, name: str, output: str, precision: Precision) -> None:
        if precision not in get_args(Precision):
            known = ", ".join(get_args(Precision))
            raise ValueError(f"precision must be one of {known}, got {precision!r}")
        super().__init__()
        self.name = name
        self.output = output
        self.precision = precision

    def forward(self, image: Tensor) -> list[Tensor]:
        """Extract the features of a batch.

        Args:
            image: float ``[B,3,h,w]`` in 0..1, RGB.

        Returns:
            The levels, finest first, each ``[B,C_l,H_l,W_l]``; an embedding is one of
            ``[B,C,1,1]``.

        Raises:
            InputError: images of this size cannot be taken.
        """
        self.check_size(*image.shape[-2:])
        if self.precision == "float32":
            return self._levels(image)
        with torch.autocast(image.device.type, getattr(torch, self.precision)):
            return [level.float() for level in self._levels(image)]

    @abstractmethod
    def _levels(self, image: Tensor) -> list[Tensor]:
        """What ``forward`` returns, in the network's own number format."""

    @abstractmethod
    def check_size(self, height: int, width: int) -> None:
        """Raise a ``InputError`` where an image of this size, in pixels, cannot be taken."""

    def check_tasks(self, tasks: Sequence[str]) -> None:
        """Raise a ``InputError`` where a task lacks a network of its own that it should have."""

    def of(self, task: str) -> Frozen:
        """The network of a task: one for all, unless each task has learned its own."""
        return self

    def train(self, mode: bool = True) -> Frozen:
        """Stay in eval mode."""
        return super().train(False)

    def _freeze(self, net: Any, *facts: Any) -> None:
        """Take the network's identity and let nothing train it."""
        self.identity = digest(net, repr(facts))
        net.requires_grad_(False)
        self.eval()


def digest(net: nn.Module, facts: str) -> str:
    """SHA-256 of ``facts`` and of every tensor of ``net``: its name, type, shape and bytes."""
    sha = hashlib.sha256(facts.encode())
    for name, tensor in net.state_dict().items():
        sha.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        sha.update(tensor.contiguous().flatten().view(torch.uint8).numpy())
    return sha.hexdigest()
