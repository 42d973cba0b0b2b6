"""The interface of the networks that provide features, trained or frozen."""

from __future__ import annotations

import hashlib
import inspect
import itertools
import json
from abc import ABC, ABCMeta, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import torch
from torch import Tensor, nn

from occ_lab.utils.source import code_of
from occ_lab.utils.specs import Recorded, spec_of

if TYPE_CHECKING:
    from typing_extensions import Self

Precision = Literal["float32", "bfloat16", "float16"]


class Backbone(Recorded, nn.Module, ABC):
    """A network that turns images into one or more levels of features.

    A subclass sets ``channels`` in its constructor and implements ``forward``. It is trained
    together with the objective unless it is a `FrozenBackbone`. The arguments of its constructor
    must be plain data (numbers, strings, lists, paths), because a checkpoint stores them to rebuild
    it.

    Args:
        name: its name in results.

    Attributes:
        name: its name in results.
        channels: the number of channels of each level.
        multiple: if images are kept whole, their sides are multiples of this number of pixels.
        trained: whether the detector trains it.

    Example:
        >>> class Small(Backbone):
        ...     def __init__(self) -> None:
        ...         super().__init__("small")
        ...         self.channels = [8]
        ...         self.conv = nn.Conv2d(3, 8, kernel_size=4, stride=4)
        ...
        ...     def forward(self, image: Tensor) -> list[Tensor]:
        ...         return [self.conv(image).relu()]
        >>> [level.shape for level in Small()(torch.rand(2, 3, 32, 32))]
        [torch.Size([2, 8, 8, 8])]
    """

    trained: bool = True
    multiple: int = 16
    channels: list[int]

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    @abstractmethod
    def forward(self, image: Tensor) -> list[Tensor]:
        """Extract the features of a batch.

        Args:
            image: float ``[B, 3, h, w]`` in 0..1, RGB.

        Returns:
            The levels, finest first, each ``[B, C_l, H_l, W_l]``. An embedding of the whole image
            is a single level of ``[B, C, 1, 1]``.

        Raises:
            InputError: the network cannot process images of this size.
        """

    def check_size(self, height: int, width: int) -> None:
        """Raise an ``InputError`` if the network cannot process images of this size in pixels."""

    def check_tasks(self, tasks: Sequence[str]) -> None:
        """Raise an ``InputError`` if the network of one of these tasks is missing."""

    def for_task(self, task: str) -> Backbone:
        """The backbone for a task: this one, unless each task has a network of its own."""
        return self

    def prepare(self, images: Iterable[Tensor]) -> None:
        """Read the training images once, before the first step.

        Args:
            images: all training images, in batches ``[B, 3, h, w]`` in 0..1.
        """


class _FrozenAfterInit(ABCMeta):
    """Freezes an object after its constructor and those of its subclasses have finished."""

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        made = super().__call__(*args, **kwargs)
        made.requires_grad_(False)
        made.train(False)
        return made


class FrozenBackbone(Backbone, metaclass=_FrozenAfterInit):
    """A backbone that is not trained, so that its features can be cached.

    A subclass sets ``channels`` in its constructor and implements ``levels``. After construction,
    its parameters require no gradient, and it stays in eval mode whatever ``train`` is given.

    Args:
        name: its name in results.
        precision: the precision of the network: ``float32``; or ``bfloat16`` or ``float16`` by
            autocast, which are faster on GPUs and round the result of every layer.

    Raises:
        ValueError: the precision is unknown.

    Example:
        >>> class Colours(FrozenBackbone):
        ...     def __init__(self, cell: int = 8) -> None:
        ...         super().__init__("colours")
        ...         self.channels = [3]
        ...         self.mean = nn.AvgPool2d(cell)
        ...
        ...     def levels(self, image: Tensor) -> list[Tensor]:
        ...         return [self.mean(image)]
        >>> [level.shape for level in Colours()(torch.rand(2, 3, 32, 32))]
        [torch.Size([2, 3, 4, 4])]
        >>> Colours().identity == Colours(cell=4).identity
        False
        >>> Colours().identity == Colours(cell=8).identity
        True
    """

    trained = False

    def __init__(self, name: str, precision: Precision = "float32") -> None:
        if precision not in get_args(Precision):
            known = ", ".join(get_args(Precision))
            raise ValueError(f"precision must be one of {known}, got {precision!r}")
        super().__init__(name)
        self.precision = precision
        self._identity: str | None = None
        self._known: type = FrozenBackbone  # the class whose code `_network_digest` covers
        self._network = ""  # the attribute whose weights it covers
        self._network_digest = ""

    def forward(self, image: Tensor) -> list[Tensor]:
        """Extract the features of a batch, see `Backbone.forward`."""
        self.check_size(*image.shape[-2:])
        if self.precision == "float32":
            return self.levels(image)
        with torch.autocast(image.device.type, getattr(torch, self.precision)):
            return [level.float() for level in self.levels(image)]

    @abstractmethod
    def levels(self, image: Tensor) -> list[Tensor]:
        """Compute the result of ``forward``, for images whose size has been checked.

        Args:
            image: float ``[B, 3, h, w]`` in 0..1, RGB.

        Returns:
            The levels, finest first, each ``[B, C_l, H_l, W_l]``.
        """

    @property
    def identity(self) -> str:
        """A hex digest of everything that determines the features: weights, code and arguments.

        Two backbones with the same identity have the same features. The feature cache relies on
        this, and a checkpoint stores the identity instead of the weights. It is computed on first
        use; weights loaded afterwards do not change it. The code is the source of the class without
        comments. A class that depends on other code or files should override this property.
        """
        if self._identity is None:
            own = list(
                itertools.takewhile(lambda each: each is not self._known, type(self).__mro__)
            )
            self._identity = self._digest_beyond(own) if own else self._network_digest
        return self._identity

    def _identify(self, known: type, network: str, *facts: Any) -> None:
        """Digest the network of one of our own classes before its weights are rearranged.

        Args:
            known: the class that calls this method; ``facts`` cover its arguments and code.
            network: the name of the attribute that holds the network.
            facts: everything besides the weights that determines the features.
        """
        self._known = known
        self._network = network
        self._network_digest = digest(getattr(self, network).state_dict(), repr(facts))

    def _digest_beyond(self, classes: Sequence[type]) -> str:
        """A digest that also covers the additions of a user's own ``classes``."""
        tensors = {
            name: tensor
            for name, tensor in {**self.state_dict(), **dict(self.named_buffers())}.items()
            if isinstance(tensor, Tensor) and name.split(".")[0] != self._network
        }
        parameters = inspect.signature(type(self).__init__).parameters.values()
        defaults = {
            each.name: each.default for each in parameters if each.default is not each.empty
        }
        arguments = {**defaults, **self.arguments}
        arguments.pop("name", None)
        code = [code_of(each) for each in classes]
        facts = [self._network_digest, self.precision, code, arguments]
        return digest(tensors, json.dumps(facts, sort_keys=True, default=described))

    def train(self, mode: bool = True) -> Self:
        """Stay in eval mode, whatever ``mode`` is."""
        return super().train(False)


def digest(tensors: Mapping[str, Tensor], facts: str) -> str:
    """SHA-256 of ``facts`` and of every tensor: its name, dtype, shape and bytes.

    Args:
        tensors: the tensors by name, on any device.
        facts: everything else that the digest should cover.

    Returns:
        64 hex digits.
    """
    sha = hashlib.sha256(facts.encode())
    for name, tensor in tensors.items():
        sha.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        sha.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return sha.hexdigest()


def described(value: Any) -> Any:
    """A replacement for an argument that JSON cannot represent.

    Raises:
        TypeError: there is none, so the class has to override ``identity``.
    """
    if isinstance(value, nn.Module) and not isinstance(value, Recorded):
        return str(value)  # its structure; its weights are part of the backbone's state
    if isinstance(value, Sequence):
        return list(value)
    return str(value) if isinstance(value, Path) else spec_of(value)
