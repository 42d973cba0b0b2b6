"""The moments of features by position and by cell: all that the local closed form uses."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from occ_lab.features.cells import Cells
from occ_lab.utils.errors import InputError, check_number
from occ_lab.utils.processes import all_reduced, gathered_objects
from occ_lab.utils.sized import SizedByData

MEMORY_MB = 512.0
CACHED = 2**19  # numbers of float64, 4 MB

log = logging.getLogger(__name__)


class LocalMoments(SizedByData):
    """Sums over images of f at every position, and of f fᵀ over the positions of every cell.

    f are the joined levels. All are sums in float64: they grow image by image, the sums of two sets
    or two processes add up, and images are removed by subtraction. Moments about any means of
    positions follow from them, since ``Σ (f − μ)(f − μ)ᵀ = Σ f fᵀ − n μ μᵀ`` at a position of mean
    μ over n images.

    They take ``8 G C²`` bytes for G cells and C channels: 49 MB for 196 cells and 176 channels.
    Where that would be more than ``memory_mb``, cells are larger. Of the ways to save memory with
    which sums remain sums, this changes scores least (experiments/local_cost): every position keeps
    its own mean, and every channel.

    Args:
        cell: positions along a side of a cell; None is one cell for all positions.
        normalize: whether each f is scaled to length √C first.
        memory_mb: what ``squares`` may take, in MB (1e6 bytes), above 0, unless a single cell takes
            more. Solving takes about four times as much for a moment, and scoring half as much.

    Attributes:
        weight: n, the number of images, or less where some were forgotten; ``[1]``.
        counts: the images in which each position counts, ``[G, P, 1]``: n, unless images leave a
            part of their frame free; empty before the first batch, as are the others.
        sums: Σ f, ``[G, P, C]`` with P the positions of a cell.
        squares: Σ f fᵀ over images and positions of a cell, ``[G, C, C]``.
        cell_squares: the sum over images of the squares of Σ f over a cell, ``[G, C]``. Where only
            some positions of the cell count, that over all of them is extrapolated.
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
        # A checkpoint holds the solution; the moments would make it four times as large.
        empty = {"weight": (1,), "counts": (0, 0, 0), "sums": (0, 0, 0), "squares": (0, 0, 0)}
        for name, shape in {**empty, "cell_squares": (0, 0), "map_squares": (0,)}.items():
            self.register_buffer(name, torch.zeros(shape, dtype=torch.float64), persistent=False)

    def build(self, channels: int, size: Sequence[int]) -> Cells:
        """Begin with sums of zero for maps of C channels and a size, unless they have begun before.

        Raises:
            InputError: they have begun with maps of another size.
        """
        each = 8 * channels**2 / 1e6  # MB of a cell
        cells = Cells.of(self.cell, size, int(self.memory_mb / each))
        if self.cells is None:
            self.cells = cells
            wanted = Cells.of(self.cell, size)
            if cells != wanted:
                log.info(
                    "memory_mb=%g: the local form of %d channels would need %.0f MB for %d cells; "
                    "it has %d larger cells in their place, which take %.0f MB",
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
            valid: the positions that count, bool ``[B, H, W]``; None is all.

        Raises:
            InputError: their maps have another size than those of earlier images.
        """
        cells = self.build(sum(level.shape[1] for level in levels), levels[0].shape[-2:])
        count = len(levels[0])
        if not count:
            return
        x = cells.features(levels, self.normalize)
        # Deviations from the mean of the batch are summed in the precision of the features, which
        # takes half of the time; what is large, the means, enters in float64.
        if valid is None:
            own = count * cells.mask.to(self.counts)
            # How many times as many positions a cell and the map have as count.
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
        # A few cells at once: their squares stay in the processor's cache.
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
            state: what `state` has returned.
            factor: 1 adds their images, −1 removes them.

        Raises:
            InputError: their maps have another size, or their cells do.
        """
        if not len(state["sums"]):
            return
        self.build(state["sums"].shape[-1], state["size"].tolist())
        if state["sums"].shape != self.sums.shape:
            raise InputError(
                f"memory_mb: moments of {len(self.sums)} and of {len(state['sums'])} cells do not "
                "add up; use the same cell and memory_mb for both",
                part="objective",
            )
        assert self.cells is not None
        if "counts" not in state:  # of an earlier version, in which every position counted
            state = {**state, "counts": state["weight"] * self.cells.mask.to(self.counts)}
        for name, own in self.named_buffers():
            # Where both are the same moments, what is added must not change on the way.
            own += factor * state[name].to(own)

    def scale(self, factor: float) -> None:
        """Multiply the weight of all that was added so far."""
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
        """The number of images that the sums stand for."""
        return float(self.weight)

    @property
    def seen_in_cells(self) -> Tensor:
        """How many positions were seen in each cell, over all images: float64 ``[G]``, CPU."""
        return self.counts.cpu().sum(dim=(1, 2))

    @property
    def means(self) -> Tensor:
        """The mean of every position, zero where none was seen: float64 ``[G, P, C]``, CPU."""
        return self.sums.cpu() / at_least_one(self.counts.cpu())


def at_least_one(counts: Tensor) -> Tensor:
    """Counts to divide by: 1 in place of 0, which only sums of nothing are divided by."""
    return torch.where(counts > 0, counts, 1.0)
