"""The contract of an objective."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from occ_lab.features.regions import contents
from occ_lab.projectors import Conv1x1, Projector
from occ_lab.utils.errors import InputError
from occ_lab.utils.sized import SizedByData
from occ_lab.utils.specs import Recorded


class Objective(Recorded, SizedByData, ABC):
    """A one-class objective over feature maps ``z`` ``[B, C, H, W]``; calling it returns scores.

    It scores positions, whether they are patches of an image or the single embedding of a whole
    image (H = W = 1). It learns in one of two ways: from the gradient of `loss`, preceded by a
    pass over the training set in `setup` if ``needs_setup``; or, if ``one_pass``, from a single
    pass in which `observe` gets every batch, followed by a call of `finish`.

    A subclass implements `forward` and either `loss` or `observe`. The arguments of its constructor
    must be plain values (numbers, strings, lists of them), so that a checkpoint can store them.

    Only positions that belong to an image are passed to it. If images do not fill their frame,
    ``observe`` gets the concatenated levels, and ``setup`` the maps, of images of one shape without
    the rest of the frame. ``loss`` gets one map ``[1, C, 1, N]`` of all positions of a batch.

    Attributes:
        located: whether it has a model for every position of the map, so that it needs to know
            where a position is. Its ``observe`` then has a second argument ``valid``, which is
            given if images do not fill their frame: bool ``[B, H, W]``, the positions that count.
        needs_setup: whether it needs a pass over the training set in `setup` before the first step.
        one_pass: whether it learns from `observe` and `finish` instead of gradients.
        in_order: whether its single pass takes the images in order, because the order changes
            nothing but rounding; then its result does not depend on a seed.
        of_pass: the names of the attributes that hold the result of its single pass, after
            `prepare`; see `pass_settings`.
        learned: the names of the buffers that are empty at first, because their size depends on the
            data.

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
    in_order: bool = False
    of_pass: tuple[str, ...] = ()

    def build(self, channels: int) -> None:
        """Create the parts that depend on the channels C of the feature map; none by default.

        A detector calls this method before anything else. A second call with the same number of
        channels changes nothing.

        Args:
            channels: C, at least 1.

        Raises:
            ValueError: the objective has been built for another number of channels.
        """

    def default_projector(self, channels: Sequence[int]) -> Projector:
        """The projector that suits the objective, for levels with these channels."""
        return Conv1x1(channels)

    def configure_optimizer(self, parameters: Iterable[nn.Parameter]) -> Optimizer:
        """The optimizer that suits the objective, used if the caller chooses none."""
        return AdamW(parameters, lr=1e-3, weight_decay=5e-4, amsgrad=True)

    def see_tiles(self, projector: nn.Module) -> None:
        """Prepare for maps of tiles, whose positions can be anywhere in an image.

        A detector calls this method before training if images are cut into tiles. By default
        nothing changes.

        Args:
            projector: the projector of the detector.
        """

    def setup(self, feature_maps: Iterable[Tensor]) -> None:
        """Learn from one pass over the untrained projector's maps ``[B, C, H, W]``."""

    def start_epoch(self, epoch: int) -> None:
        """Called at the start of each epoch; epochs are counted from 0."""

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
        """Scalars of the last batch, by name, that are logged in addition to the loss."""
        return {}

    def conclude(self) -> None:
        """Called after the last gradient step; logs what the user should know."""

    def observe(self, levels: Sequence[Tensor]) -> None:
        """Learn from a batch of levels ``[B, C_l, H_l, W_l]``, finest first.

        Raises:
            TypeError: the objective learns by gradient, from its loss.
        """
        raise TypeError(f"{type(self).__name__} learns by gradient, from its loss")

    def pass_settings(self) -> dict[str, Any] | None:
        """What the result of its pass depends on besides the levels and their order, as plain data.

        Objectives of one class that have equal settings may share the result of one pass over the
        same images: the attributes ``of_pass``. None, the default, shares nothing. Nor does a
        subclass that inherits the method, since it may have further settings.
        """
        return None

    def finish_settings(self) -> dict[str, Any] | None:
        """What `finish` makes of the result of a pass depends on, as plain data.

        Objectives of one class that have equal settings may share the state that they and their
        projector have after `finish`, in addition to the result of the pass. None, the default,
        shares no more than that.
        """
        return None

    def score_settings(self) -> dict[str, Any] | None:
        """What its scores depend on besides its state and ``z``, as plain data.

        Objectives of one class that share their state after `finish` and have equal settings may
        share the result of one test. None, the default, shares no test.
        """
        return None

    def prepare(self) -> None:
        """Compute now what `finish` would compute from the result of the pass alone."""

    def finish(self, projector: Projector) -> None:
        """End the single pass; may set the projector's weights from what was learned."""

    def _check_fitted(self) -> None:
        for name in self.learned:
            if not getattr(self, name).numel():
                raise RuntimeError(
                    f"{type(self).__name__} is not fitted: its {name} is empty; fit it or load its "
                    "state first"
                )


def observe_valid(objective: Objective, levels: Sequence[Tensor], valid: Tensor | None) -> None:
    """Pass the positions that belong to images to an objective that learns in one pass.

    Args:
        objective: gets all levels and ``valid`` if it is located, or else the valid positions.
        levels: ``[B, C_l, H_l, W_l]``, finest first.
        valid: bool ``[B, H, W]``, a rectangle in each image; None if all positions belong to them.
    """
    if valid is None:
        objective.observe(levels)
    elif objective.located:
        objective.observe(levels, valid)  # type: ignore[call-arg]
    else:
        for part in contents(levels, valid):
            objective.observe([part])


def check_same(built: int | None, channels: int) -> None:
    """Raise a ValueError if an objective has been built for another number of channels."""
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
