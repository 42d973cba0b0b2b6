"""The moments of features by position and by cell, which the local closed form is computed from."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from occ_lab.features.cells import Cells
from occ_lab.utils.errors import InputError, check_number
from occ_lab.utils.precision import full_precision
from occ_lab.utils.processes import all_reduced, gathered_objects
from occ_lab.utils.sized import Sums

MEMORY_MB = 512.0
CACHED = 2**19  # float64 numbers, 4 MB

log = logging.getLogger(__name__)


class LocalMoments(Sums):
    """Sums over images: of f at every position, and of f fᵀ over the positions of every cell.

    f are the concatenated levels. All are sums in float64: they grow image by image, the sums of
    two sets or two processes can be added, and images are removed by subtraction. Moments about any
    means of positions follow from them, because ``Σ (f − μ)(f − μ)ᵀ = Σ f fᵀ − n μ μᵀ`` at a
    position of mean μ over n images.

    They take ``8 G C²`` bytes for G cells and C channels: 49 MB for 196 cells and 176 channels. If
    this would be more than ``memory_mb``, cells are enlarged. Among the ways to save memory that
    preserve the additivity of sums, this one changes scores least (experiments/local_cost): every
    position keeps its own mean, and no channel is dropped.

    Args:
        cell: the number of positions along a side of a cell; None makes all positions one cell.
        normalize: whether to scale each f to length √C first.
        memory_mb: the limit for ``squares``, in MB (1e6 bytes), above 0; a single cell may exceed
            it. Solving temporarily takes about four times as much, and scoring half as much.

    Attributes:
        weight: n, the number of images, or less if some were forgotten; ``[1]``.
        counts: the number of images in which each position counts, ``[G, P, 1]``: n, unless images
            do not fill their frame. It is empty before the first batch, like the other sums.
        sums: Σ f, ``[G, P, C]`` with P the number of positions of a cell.
        squares: Σ f fᵀ over images and positions of a cell, ``[G, C, C]``.
        cell_squares: the sum over images of the squares of Σ f over a cell, ``[G, C]``. If only
            some positions of the cell count, the sum is extrapolated to all of them.
        map_squares: the sum over images of the squares of Σ f over the map, ``[C]``; likewise.
        cells: the grid; None before the first batch.
        seen: the number of images so far.

    Example:
        >>> moments = LocalMoments(cell=2)
        >>> moments.update([torch.ones(4, 1, 4, 4)])
        >>> moments.squares.flatten()  # four images, four cells of four positions
        tensor([16., 16., 16., 16.], dtype=torch.float64)
        >>> moments.add(moments.state(), factor=-1.0)
        >>> float(moments.weight), float(moments.sums.abs().sum())
        (0.0, 0.0)
    """

    weight: Tensor
    counts: Tensor
    sums: Tensor
    squares: Tensor
    cell_squares: Tensor
    map_squares: Tensor

    def __init__(
        self, cell: int | None = None, normalize: bool = False, memory_mb: float = MEMORY_MB
    ) -> None:
        check_number("memory_mb", memory_mb, above=0)
        super().__init__()
        self.memory_mb = memory_mb
        self.cell = cell
        self.normalize = normalize
        self.cells: Cells | None = None
        self.seen = 0
        # A checkpoint holds only the solution; the moments would make it four times as large.
        empty = {"weight": (1,), "counts": (0, 0, 0), "sums": (0, 0, 0), "squares": (0, 0, 0)}
        for name, shape in {**empty, "cell_squares": (0, 0), "map_squares": (0,)}.items():
            self.register_buffer(name, torch.zeros(shape, dtype=torch.float64), persistent=False)

    def build(self, channels: int, size: Sequence[int]) -> Cells:
        """Set the sums to zero for maps of C channels and a size, unless this was done before.

        Raises:
            InputError: the sums belong to maps of another size.
        """
        each = 8 * channels**2 / 1e6  # MB per cell
        cells = Cells.of(self.cell, size, int(self.memory_mb / each))
        if self.cells is None:
            self.cells = cells
            wanted = Cells.of(self.cell, size)
            if cells != wanted:
                log.info(
                    "memory_mb=%g: the local form of %d channels would need %.0f MB for %d cells; "
                    "it uses %d larger cells instead, which take %.0f MB",
                    *(self.memory_mb, channels, each * wanted.count, wanted.count),
                    *(cells.count, each * cells.count),
                )
            self.sums = self.sums.new_zeros(cells.count, cells.area, channels)
            self.counts = self.sums.new_zeros(cells.count, cells.area, 1)
            self.squares = self.sums.new_zeros(cells.count, channels, channels)
            self.cell_squares = self.sums.new_zeros(cells.count, channels)
            self.map_squares = self.sums.new_zeros(channels)
        elif self.cells != cells:
            before = f"{self.cells.height} × {self.cells.width}"
            raise InputError(
                f"images: a map has {cells.height} × {cells.width} positions and an earlier one "
                f"{before}; a projector for each cell needs images of one size",
                part="dataset",
            )
        return cells

    @torch.no_grad()
    def update(self, levels: Sequence[Tensor], valid: Tensor | None = None) -> None:
        """Add images.

        Args:
            levels: ``[B, C_l, H_l, W_l]``, finest first; B may be 0.
            valid: the positions that count, bool ``[B, H, W]``; None counts all.

        Raises:
            InputError: the size of the maps differs from that of earlier images.
        """
        cells = self.build(sum(level.shape[1] for level in levels), levels[0].shape[-2:])
        if not len(levels[0]):
            return
        here = self.sums.device
        own_levels = [level.to(here) for level in levels]
        with full_precision(here):
            self._add(cells, own_levels, None if valid is None else valid.to(here))

    def _add(self, cells: Cells, levels: Sequence[Tensor], valid: Tensor | None) -> None:
        count = len(levels[0])
        x = cells.features(levels, self.normalize)
        # Deviations from the mean of the batch are summed in the precision of the features, which
        # takes half of the time. The large part, the means, is added in float64.
        if valid is None:
            own = count * cells.mask.to(self.counts)
            # The ratio of all positions of a cell, or of the map, to those that count.
            of_cell = of_map = torch.ones((), dtype=torch.float64, device=x.device)
            mean = x.mean(dim=1)
            x -= mean[:, None]
            of_means = mean.sum(dim=1, keepdim=True, dtype=torch.float64)
        else:
            weights = cells.split(valid[:, None].to(x))  # [G, B, P, 1], 1 where a position counts
            own = weights.sum(dim=1).double()
            mean = (weights * x).sum(dim=1) / weights.sum(dim=1).clamp_min(1)
            x = (x - mean[:, None]) * weights
            of_means = (weights * mean[:, None]).sum(dim=2, dtype=torch.float64)
            there = weights.sum(dim=2, dtype=torch.float64)  # [G, B, 1]
            of_cell = cells.sizes.to(there)[:, None, None] / at_least_one(there)
            of_map = cells.sizes.sum().to(there) / at_least_one(there.sum(dim=0))
        total = own * mean.double() + x.sum(dim=1).double()
        of_cells = x.sum(dim=2).double() + of_means
        self.weight += count
        self.seen += count
        self.counts += own
        self.sums += total
        self.cell_squares += (of_cell * of_cells.square()).sum(dim=1)
        self.map_squares += (of_map * of_cells.sum(dim=0).square()).sum(dim=0)
        few = len(x)
        if x.device.type == "cpu":  # a few cells, whose squares stay in the processor's cache
            few = max(1, CACHED // x.shape[3] ** 2)
        scaled = total / own.clamp_min(1).sqrt()
        parts = zip(*(torch.split(each, few) for each in (self.squares, scaled, x)), strict=True)
        for squares, sums, apart in parts:
            squares.baddbmm_(sums.mT, sums)
            if count > 1:
                rows = apart.flatten(1, 2)
                squares += torch.bmm(rows.mT, rows)

    def state(self) -> dict[str, Tensor]:
        """All sums by name, for `add`, and the ``size`` of the maps, int64 ``[2]``."""
        size = (0, 0) if self.cells is None else (self.cells.height, self.cells.width)
        return {**dict(self.named_buffers()), "size": torch.tensor(size)}

    def add(self, state: Mapping[str, Tensor], factor: float = 1.0) -> None:
        """Add ``factor`` times the sums of other moments, which may be empty.

        Args:
            state: a result of `state`.
            factor: 1 adds their images, −1 removes them.

        Raises:
            InputError: the size of their maps or cells differs.
        """
        if not len(state["sums"]):
            return
        self.build(state["sums"].shape[-1], state["size"].tolist())
        if state["sums"].shape != self.sums.shape:
            raise InputError(
                f"memory_mb: moments of {len(self.sums)} cells and of {len(state['sums'])} cells "
                "cannot be added; use the same cell and memory_mb for both",
                part="objective",
            )
        assert self.cells is not None
        if "counts" not in state:  # from an earlier version, in which every position counted
            state = {**state, "counts": state["weight"] * self.cells.mask.to(self.counts)}
        for name, own in self.named_buffers():
            # If both are the same moments, the addend must not change during the loop.
            own += factor * state[name].to(own)

    def scale(self, factor: float) -> None:
        """Multiply the weight of everything added so far."""
        for total in self.buffers():
            total *= factor

    def reduce(self) -> None:
        """Add up the sums of the processes of a distributed run.

        Raises:
            InputError: their maps differ in size.
        """
        own = None if self.cells is None else (self.sums.shape[-1], self.state()["size"].tolist())
        for shape in gathered_objects([own]):
            if shape is not None:
                self.build(*shape)
        for name, total in self.named_buffers():
            setattr(self, name, all_reduced(total))

    @property
    def n(self) -> float:
        """The number of images that the sums represent."""
        return float(self.weight)

    @property
    def seen_in_cells(self) -> Tensor:
        """The number of positions seen in each cell, over all images: float64 ``[G]``, CPU."""
        return self.counts.cpu().sum(dim=(1, 2))

    @property
    def means(self) -> Tensor:
        """The mean of every position, zero if it was never seen: float64 ``[G, P, C]``, CPU."""
        return self.sums.cpu() / at_least_one(self.counts.cpu())


def at_least_one(counts: Tensor) -> Tensor:
    """Counts as divisors: 0 is replaced by 1, since the corresponding sums are 0."""
    return torch.where(counts > 0, counts, 1.0)
