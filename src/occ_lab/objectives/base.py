"""The contract of an objective."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from occ_lab.projectors import Conv1x1, Projector
from occ_lab.utils.errors import InputError
from occ_lab.utils.sized import SizedByData
from occ_lab.utils.specs import Recorded


class Objective(Recorded, SizedByData, ABC):
    """A one-class objective over feature maps ``z`` ``[B, C, H, W]``; calling it gives scores.

    It scores positions and never asks whether they are patches of an image or the one embedding
    of a whole image (H = W = 1). It learns in one of two ways: by the gradient of `loss`, after
    `setup` has seen the training set if ``needs_setup``; or, if ``one_pass``, from a single pass
    in which it sees every batch in `observe`, and at the end `finish` is called.

    A subclass implements `forward` and either `loss` or `observe`. The arguments of its constructor
    are plain values (numbers, strings, lists of them), so that a checkpoint can hold them.

    It sees positions of images alone. Where images leave a part of their frame free, ``observe``
    gets the joined levels and ``setup`` the maps of images of one shape, without that part, and
    ``loss`` gets a map ``[1, C, 1, N]`` of all positions of a batch.

    Attributes:
        located: whether it has a model for every position of the map, so that it must know where a
            position is. Its ``observe`` then has a second argument ``valid``, which is given where
            images leave a part of their frame free: bool ``[B, H, W]``, the positions that count.
        needs_setup: whether `setup` must see the training set before the first step.
        one_pass: whether it learns by `observe` and `finish` in place of gradients.
        learned: names of the buffers that are empty at first, since only the data determine how
            large they get.

    Example:
        >>> class DistanceFromOrigin(Objective):
        ...     def forward(self, z):
        ...         return z.square().sum(dim=1)
        ...     def loss(self, z):
        ...         return self(z).mean()
        >>> DistanceFromOrigin()(torch.ones(2, 3, 4, 4)).shape
        torch.Size([2, 4, 4])
    """

    located: bool = False
    needs_setup: bool = False
    one_pass: bool = False

    def build(self, channels: int) -> None:
        """Create what depends on the channels C of the feature map; by default there is nothing.

        A detector calls this before anything else. A second call with the same channels changes
        nothing.

        Args:
            channels: C, at least 1.

        Raises:
            ValueError: the objective has been built for another number of channels.
        """

    def default_projector(self, channels: Sequence[int]) -> Projector:
        """The projector that suits the objective, for levels of these channels."""
        return Conv1x1(channels)

    def configure_optimizer(self, parameters: Iterable[nn.Parameter]) -> Optimizer:
        """The optimizer that suits the objective, where the caller chooses none."""
        return AdamW(parameters, lr=1e-3, weight_decay=5e-4, amsgrad=True)

    def see_tiles(self, projector: nn.Module) -> None:
        """Prepare for maps of tiles, whose positions are anywhere in an image.

        A detector calls this before it learns, if images are seen in tiles; by default nothing
        changes.

        Args:
            projector: the detector's.
        """

    def setup(self, feature_maps: Iterable[Tensor]) -> None:
        """Learn from one pass over the untrained projector's maps ``[B, C, H, W]``."""

    def start_epoch(self, epoch: int) -> None:
        """Prepare for an epoch; epochs are counted from 0."""

    @abstractmethod
    def forward(self, z: Tensor) -> Tensor:
        """Anomaly scores ``[B, H, W]`` of maps ``[B, C, H, W]``; larger is more anomalous."""

    def loss(self, z: Tensor) -> Tensor:
        """The training loss, a scalar, of the maps ``[B, C, H, W]`` of normal images.

        Raises:
            TypeError: the objective learns in one pass and has no loss.
        """
        raise TypeError(f"{type(self).__name__} learns in one pass and has no loss")

    def facts(self) -> dict[str, Tensor]:
        """Scalars by name that are worth logging beside the loss, as of the last batch."""
        return {}

    def conclude(self) -> None:
        """Report what is worth knowing after the last step of a training by gradient."""

    def observe(self, levels: Sequence[Tensor]) -> None:
        """Learn from a batch of levels ``[B, C_l, H_l, W_l]``, finest first.

        Raises:
            TypeError: the objective learns by gradient, from its loss.
        """
        raise TypeError(f"{type(self).__name__} learns by gradient, from its loss")

    def finish(self, projector: Projector) -> None:
        """End the one pass; the projector's weights may be set by what was learned."""

    def _check_fitted(self) -> None:
        for name in self.learned:
            if not getattr(self, name).numel():
                raise RuntimeError(
                    f"{type(self).__name__} is not fitted: its {name} is empty; fit it or load its "
                    "state first"
                )


def check_same(built: int | None, channels: int) -> None:
    """Raise a ValueError unless an objective is not built yet, or built for these channels."""
    if built not in (None, channels):
        raise ValueError(f"channels must be {built}, for which it has been built, got {channels}")


def mean_feature(feature_maps: Iterable[Tensor]) -> Tensor:
    """The mean over images and positions of maps ``[B, C, H, W]``, float64 ``[C]`` on the CPU.

    Raises:
        InputError: there are no maps.

    Example:
        >>> mean_feature([torch.zeros(3, 2, 4, 4), torch.ones(1, 2, 4, 4)])
        tensor([0.2500, 0.2500], dtype=torch.float64)
    """
    total, count = torch.tensor(0.0, dtype=torch.float64), 0
    for z in feature_maps:
        total = total + z.sum(dim=(0, 2, 3)).cpu().double()
        count += z.shape[0] * z.shape[2] * z.shape[3]
    if not count:
        raise InputError("the training set has no images", part="dataset")
    return total / count
