"""Projectors, which compute one feature map from the levels of a backbone."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from occ_lab.features.cells import Cells
from occ_lab.features.levels import join, root_mean_squares, unit_scale
from occ_lab.utils.errors import InputError, check_number
from occ_lab.utils.sized import SizedByData
from occ_lab.utils.specs import Recorded

MakeProjector: TypeAlias = Callable[[Sequence[int]], nn.Module]


class Projector(Recorded, nn.Module, ABC):
    """A module that computes the feature map of an objective from the levels of a backbone.

    A subclass takes the channels of the levels as its first argument. All its arguments must be
    plain values, so that a checkpoint can store them.

    Attributes:
        channels: the number of channels C_l of each level.
        out_channels: the number of channels C of the feature map.
        needs_size: whether trained parameters depend on the size of the map, see `build`.
        needs_setup: whether it needs a pass over the training set in `setup` before it is used.
    """

    channels: list[int]
    needs_size: bool = False
    needs_setup: bool = False

    @property
    @abstractmethod
    def out_channels(self) -> int:
        """The number of channels C of the feature map."""

    @abstractmethod
    def forward(self, levels: Sequence[Tensor]) -> Tensor:
        """The feature map ``[B, C, H, W]`` of levels ``[B, C_l, H_l, W_l]``, finest first."""

    def build(self, size: Sequence[int]) -> None:
        """Create the trained parameters that depend on the size of the map, H and W."""

    def setup(self, batches: Iterable[Sequence[Tensor]]) -> None:
        """Learn from one pass over the levels ``[B, C_l, H_l, W_l]`` of the training images."""

    def assign(self, factor: Tensor) -> None:
        """Set the weights so that the output is ``L [f; 1]`` for concatenated levels f.

        Args:
            factor: L, ``[R, ΣC_l + 1]``; the output then has R channels.

        Raises:
            InputError: the weights of this projector cannot be set.
        """
        raise InputError(
            f"a closed form sets the weights of a Conv1x1 projector, not of {type(self).__name__}",
            part="projector",
        )

    def assign_cells(self, weight: Tensor, bias: Tensor, mean: Tensor) -> None:
        """Set the weights of every cell of a grid, see `LocalProjector`.

        Raises:
            InputError: the projector has no cells.
        """
        raise InputError(
            "a local closed form sets the weights of a LocalProjector, not of "
            f"{type(self).__name__}",
            part="projector",
        )


class Conv1x1(Projector):
    """A 1×1 convolution over the concatenated levels, applied before the concatenation.

    Levels are upsampled to the finest grid and concatenated. Both operations are linear and act on
    positions and channels separately, so the convolution commutes with them: each level is
    projected at its own resolution by its part of the weights, upsampled and added. The result is
    the same for about a quarter of the arithmetic.

    Args:
        channels: the number of channels of each level.
        compression: the output has ``expansion * sum(channels) // compression`` channels; at least
            1 and at most ``expansion * sum(channels)``.
        normalize: whether to scale the concatenated feature vector of each position to length √C
            first. Such a scale commutes with the convolution too, except for the bias.
        bias: whether the convolution has a bias. Deep SVDD has none, because a bias could map every
            feature to the centre. A closed form that sets the weights sets a bias in any case.
        expansion: how many times as many channels the output has before the compression, at least
            1; CFA has 2 for EfficientNet-B5.

    Raises:
        ValueError: ``compression`` or ``expansion`` is out of range.

    Example:
        >>> projector = Conv1x1([16, 32], compression=2)
        >>> levels = [torch.rand(2, 16, 8, 8), torch.rand(2, 32, 4, 4)]
        >>> projector(levels).shape
        torch.Size([2, 24, 8, 8])
    """

    def __init__(
        self,
        channels: Sequence[int],
        compression: int = 1,
        normalize: bool = False,
        bias: bool = True,
        expansion: int = 1,
    ) -> None:
        check_number("expansion", expansion, at_least=1, integer=True)
        total = sum(channels)
        most = expansion * total
        check_number("compression", compression, at_least=1, at_most=most, integer=True)
        super().__init__()
        self.channels = list(channels)
        self.normalize = normalize
        self.conv = nn.Conv2d(total, most // compression, kernel_size=1, bias=bias)

    @property
    def out_channels(self) -> int:
        """The number of channels C of the feature map."""
        return self.conv.out_channels

    def forward(self, levels: Sequence[Tensor]) -> Tensor:
        """The feature map ``[B, C, H, W]`` of levels ``[B, C_l, H_l, W_l]``, finest first."""
        size = levels[0].shape[-2:]
        weights = torch.split(self.conv.weight, self.channels, dim=1)
        bias = self.conv.bias
        z = F.conv2d(levels[0], weights[0], None if self.normalize else bias)
        for level, weight in zip(levels[1:], weights[1:], strict=True):
            z += F.interpolate(F.conv2d(level, weight), size, mode="bilinear")
        if not self.normalize:
            return z
        z = z * unit_scale(levels)
        return z if bias is None else z + bias[:, None, None]

    def assign(self, factor: Tensor) -> None:
        """Set the weights so that the output is ``L [f; 1]`` for concatenated levels f.

        Args:
            factor: L, ``[R, ΣC_l + 1]``; the output then has R channels.
        """
        here = self.conv.weight
        self.conv = nn.Conv2d(factor.shape[1] - 1, factor.shape[0], 1).to(here)
        with torch.no_grad():
            self.conv.weight.copy_(factor[:, :-1, None, None])
            assert self.conv.bias is not None
            self.conv.bias.copy_(factor[:, -1])

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        rows = state_dict.get(f"{prefix}conv.bias")
        if rows is not None and (self.conv.bias is None or len(rows) != self.conv.out_channels):
            # set by a closed form
            self.conv = nn.Conv2d(self.conv.in_channels, len(rows), 1).to(self.conv.weight)
        super()._load_from_state_dict(state_dict, prefix, *rest)


class CoordConv1x1(Conv1x1):
    """A 1×1 CoordConv over the concatenated levels, the patch descriptor of CFA.

    (Liu et al. 2018, arXiv 1807.03247.) Two channels are appended to the concatenated levels: the
    coordinates along the first and the second spatial axis, each from −1 to 1. Their part of the
    convolution is linear and the same for every image, so it is computed once per batch and added.

    Args:
        channels: the number of channels of each level.
        compression: γ_d; the output has ``expansion * sum(channels) // compression`` channels; at
            least 1 and at most ``expansion * sum(channels)``.
        normalize: whether to scale the concatenated feature vector of each position, without its
            coordinates, to length √C first.
        unit_rms: whether to scale each level to a root mean square of 1 over the training set
            first, by one factor for all its channels, which `setup` measures. The training of CFA
            depends on the size of the levels and on how much they differ in size.
        expansion: see `Conv1x1`.

    Attributes:
        scale: with ``unit_rms``, the factor of each level ``[L]``; 1 before `setup`.

    Raises:
        ValueError: ``compression`` or ``expansion`` is out of range.

    Example:
        >>> projector = CoordConv1x1([16, 32])
        >>> levels = [torch.zeros(1, 16, 8, 8), torch.zeros(1, 32, 4, 4)]
        >>> z = projector(levels)
        >>> z.shape
        torch.Size([1, 48, 8, 8])
        >>> bool((z[..., 0, 0] == z[..., 7, 7]).all())  # the same features at other coordinates
        False
    """

    scale: Tensor

    def __init__(
        self,
        channels: Sequence[int],
        compression: int = 1,
        normalize: bool = False,
        unit_rms: bool = False,
        expansion: int = 1,
    ) -> None:
        super().__init__(channels, compression, normalize, expansion=expansion)
        self.needs_setup = unit_rms
        if unit_rms:
            self.register_buffer("scale", torch.ones(len(channels)))
        self.coordinates = nn.Linear(2, self.out_channels, bias=False)
        # PyTorch's default for a single convolution that consists of the two parts.
        bound = (sum(channels) + 2) ** -0.5
        nn.init.uniform_(self.coordinates.weight, -bound, bound)

    def setup(self, batches: Iterable[Sequence[Tensor]]) -> None:
        """Measure the scale of the levels ``[B, C_l, H_l, W_l]`` of the training images.

        Raises:
            InputError: there are no images.
        """
        if self.needs_setup:
            rms = root_mean_squares(batches)
            self.scale = torch.where(rms > 0, 1 / rms, 1.0).to(self.scale)

    def forward(self, levels: Sequence[Tensor]) -> Tensor:
        """The feature map ``[B, C, H, W]`` of levels ``[B, C_l, H_l, W_l]``, finest first."""
        if self.needs_setup:
            levels = [level * factor for level, factor in zip(levels, self.scale, strict=True)]
        first = levels[0]
        axes = [
            torch.linspace(-1, 1, side, dtype=first.dtype, device=first.device)
            for side in first.shape[-2:]
        ]
        grid = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1)
        positions: Tensor = self.coordinates(grid)
        return super().forward(levels) + positions.permute(2, 0, 1)

    def assign(self, factor: Tensor) -> None:
        """Raise an error: a closed form does not solve for the weights of the coordinates.

        Raises:
            InputError: always.
        """
        Projector.assign(self, factor)


class Identity(Projector):
    """No projection: the concatenated levels themselves.

    It serves objectives that compare unprojected features, and backbones that are trained.

    Args:
        channels: the number of channels of each level.

    Example:
        >>> projector = Identity([16, 32])
        >>> projector([torch.rand(2, 16, 8, 8), torch.rand(2, 32, 4, 4)]).shape
        torch.Size([2, 48, 8, 8])
    """

    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__()
        self.channels = list(channels)

    @property
    def out_channels(self) -> int:
        """The number of channels C of the feature map, the sum over all levels."""
        return sum(self.channels)

    def forward(self, levels: Sequence[Tensor]) -> Tensor:
        """The feature map ``[B, C, H, W]`` of levels ``[B, C_l, H_l, W_l]``, finest first."""
        return join(levels)


class LocalProjector(SizedByData, Projector):
    """A projector for every cell of a grid: a locally connected 1×1 convolution.

    At a position x of cell c, ``z = W_c (f − μ_x) + b_c``, where f are the concatenated levels. The
    weights are set by the closed form of the norm objective, or trained by gradient; in the latter
    case, all cells start with the same convolution, and μ is zero. W has G·C² numbers, 24 MB in
    float32 for 196 cells and 176 channels; an optimizer keeps two or three times as many in
    addition.

    Args:
        channels: the number of channels of each level, C in total.
        cell: the number of positions along a side of a cell, at least 1, see `Cells`; None makes
            all positions one cell. Cells are enlarged if weights for fewer cells are set.
        normalize: whether to scale each f to length √C first.

    Attributes:
        weight: W, ``[G, R, C]`` for G cells; empty before `build` or `assign_cells`, like the
            other attributes.
        bias: b, ``[G, R]``.
        mean: μ, ``[G, P, C]`` for the P positions of a cell; or ``[1, P, 1]`` if it is zero.

    Raises:
        ValueError: ``cell`` is out of range.

    Example:
        >>> projector = LocalProjector([1, 2], cell=2)
        >>> levels = [torch.rand(5, 1, 4, 4), torch.rand(5, 2, 2, 2)]
        >>> projector.assign_cells(torch.rand(4, 6, 3), torch.zeros(4, 6), torch.zeros(4, 4, 3))
        >>> projector(levels).shape
        torch.Size([5, 6, 4, 4])
    """

    mean: Tensor
    needs_size = True
    learned = ("weight", "bias", "mean")

    def __init__(
        self, channels: Sequence[int], cell: int | None = None, normalize: bool = False
    ) -> None:
        if cell is not None:
            check_number("cell", cell, at_least=1, integer=True)
        super().__init__()
        self.channels = list(channels)
        self.cell = cell
        self.normalize = normalize
        self.weight = nn.Parameter(torch.empty(0, 0, 0))
        self.bias = nn.Parameter(torch.empty(0, 0))
        self.register_buffer("mean", torch.empty(0, 0, 0))

    @property
    def out_channels(self) -> int:
        """The number of channels of the feature map: R, or C before the weights are set."""
        return self.weight.shape[1] or sum(self.channels)

    def forward(self, levels: Sequence[Tensor]) -> Tensor:
        """The feature map ``[B, R, H, W]`` of levels ``[B, C_l, H_l, W_l]``, finest first.

        Raises:
            RuntimeError: the weights are not set.
            InputError: the weights belong to another grid.
        """
        if not len(self.weight):
            raise RuntimeError(
                "LocalProjector is not fitted: its weight is empty; fit it or load its state first"
            )
        cells = self.cells(levels[0].shape[-2:])
        if (cells.count, cells.area) != (len(self.weight), self.mean.shape[1]):
            raise InputError(
                f"images: their maps of {cells.height} × {cells.width} positions have "
                f"{cells.count} cells, and the projector was fitted to {len(self.weight)}; images "
                "must have the size of those it was fitted to",
                part="projector",
            )
        x = cells.features(levels, self.normalize)
        x -= self.mean[:, None]
        z = torch.baddbmm(self.bias[:, None], x.flatten(1, 2), self.weight.mT)
        return cells.merge(z.view(*x.shape[:3], -1))

    def cells(self, size: Sequence[int]) -> Cells:
        """The cells of maps of H × W positions, with the same number of cells as weights."""
        return Cells.of(self.cell, size, len(self.weight))

    def build(self, size: Sequence[int]) -> None:
        """Draw the weights of one convolution for all cells, unless weights are already set.

        Args:
            size: H and W of the map.
        """
        if not len(self.weight):
            cells, total = Cells.of(self.cell, size), sum(self.channels)
            drawn = nn.Conv2d(total, total, 1)
            assert drawn.bias is not None
            self.assign_cells(
                drawn.weight[:, :, 0, 0].expand(cells.count, -1, -1),
                drawn.bias.expand(cells.count, -1),
                self.mean.new_zeros(1, cells.area, 1),
            )

    def assign_cells(self, weight: Tensor, bias: Tensor, mean: Tensor) -> None:
        """Set the weights of every cell.

        Args:
            weight: W, ``[G, R, C]``; the output then has R channels.
            bias: b, ``[G, R]``.
            mean: μ, ``[G, P, C]``, or ``[1, P, 1]``.
        """
        # In the memory layout that makes the product with features fastest.
        self.weight = nn.Parameter(weight.detach().to(self.weight).mT.contiguous().mT)
        self.bias = nn.Parameter(bias.detach().to(self.bias).contiguous())
        self.mean = mean.detach().to(self.mean).contiguous()
