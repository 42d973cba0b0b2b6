"""The second moments of features, which are all that the closed form needs of the training set."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from occ_lab.features.levels import join, unit_scale
from occ_lab.utils.interpolation import upsampling_matrix
from occ_lab.utils.precision import full_precision
from occ_lab.utils.processes import all_reduced
from occ_lab.utils.sized import Sums


class Moments(Sums):
    """The sum of f̃ f̃ᵀ over positions, with f̃ = [f; 1] and f the concatenated levels.

    It grows image by image, and the sums of two sets or two processes can be added.

    Args:
        normalize: whether to scale each f to length √C first.

    Attributes:
        total: float64 ``[C + 1, C + 1]``; its last entry is the number of positions. Empty before
            the first batch.

    Example:
        >>> moments = Moments()
        >>> moments.update([torch.ones(1, 2, 4, 4)])
        >>> moments.total
        tensor([[16., 16., 16.],
                [16., 16., 16.],
                [16., 16., 16.]], dtype=torch.float64)
    """

    total: Tensor
    learned = ("total",)

    def __init__(self, normalize: bool = False) -> None:
        super().__init__()
        self.normalize = normalize
        self.register_buffer("total", torch.empty(0, 0, dtype=torch.float64))

    def build(self, channels: Sequence[int]) -> None:
        """Set the sum to zero for levels with these channels, unless this was done before."""
        if not len(self.total):
            size = sum(channels) + 1
            self.total = self.total.new_zeros(size, size)

    @torch.no_grad()
    def update(self, levels: Sequence[Tensor]) -> None:
        """Add every position of levels ``[B, C_l, H_l, W_l]``, finest first; B may be 0."""
        self.build([level.shape[1] for level in levels])
        # Within a batch the sum has the precision of the features; over batches it is float64.
        if not len(levels[0]):
            return
        with full_precision(levels[0].device):
            added = normalized_moments(levels) if self.normalize else joint_moments(levels)
        self.total += added.to(self.total.device).double()

    def add(self, total: Tensor) -> None:
        """Add the total ``[C + 1, C + 1]`` of other moments, or an empty one."""
        if len(total):
            self.build([len(total) - 1])
            self.total += total.to(self.total.device)

    def scale(self, factor: float) -> None:
        """Multiply the weight of everything added so far."""
        self.total *= factor

    def reduce(self) -> None:
        """Add up the sums of the processes of a distributed run."""
        self.total = all_reduced(self.total)

    @property
    def mean(self) -> Tensor:
        """Σ = E[f̃ f̃ᵀ], float64 ``[C + 1, C + 1]``."""
        return self.total / self.total[-1, -1]


class HalvedMoments(nn.Module):
    """The moments of every second image and those of the others, so that each half can be held out.

    Args:
        normalize: whether to scale each f to length √C first.

    Attributes:
        even: the moments of the images with an even index, in the order of arrival.
        odd: the moments of the others.
        seen: the number of images so far.

    Example:
        >>> moments = HalvedMoments()
        >>> even, odd = moments.update([torch.ones(3, 2, 4, 4)])
        >>> len(even[0]), len(odd[0]), moments.seen
        (2, 1, 3)
    """

    def __init__(self, normalize: bool = False) -> None:
        super().__init__()
        self.even = Moments(normalize)
        self.odd = Moments(normalize)
        self.seen = 0

    def build(self, channels: Sequence[int]) -> None:
        """Set the sums to zero for levels with these channels, unless this was done before."""
        for half in self.halves:
            half.build(channels)

    @property
    def halves(self) -> tuple[Moments, Moments]:
        """The moments of the images with an even and with an odd index."""
        return self.even, self.odd

    def update(self, levels: Sequence[Tensor]) -> list[list[Tensor]]:
        """Add levels ``[B, C_l, H_l, W_l]``, finest first.

        Returns:
            The levels of the images that were added to each half.
        """
        turn = self.seen % 2
        self.seen += len(levels[0])
        parts = [[level[start::2] for level in levels] for start in (turn, 1 - turn)]
        for half, part in zip(self.halves, parts, strict=True):
            half.update(part)
        return parts

    def scale(self, factor: float) -> None:
        """Multiply the weight of everything added so far."""
        for half in self.halves:
            half.scale(factor)

    def reduce(self) -> None:
        """Add up the sums of the processes of a distributed run."""
        for half in self.halves:
            half.reduce()

    def half_mean(self, index: int) -> Tensor:
        """Σ of one half, 0 (even) or 1 (odd), float64 ``[C + 1, C + 1]`` on the CPU."""
        return self.halves[index].mean.cpu()

    @property
    def mean(self) -> Tensor:
        """Σ of all images, float64 ``[C + 1, C + 1]`` on the CPU."""
        total = (self.even.total + self.odd.total).cpu()
        return total / total[-1, -1]


def normalized_moments(levels: Sequence[Tensor]) -> Tensor:
    """The sum of f̃ f̃ᵀ with every f scaled to length √C, which needs the concatenated levels."""
    f = join(levels)
    f = (f * unit_scale(levels)).transpose(0, 1).flatten(1)
    f = torch.cat([f, f.new_ones(1, f.shape[1])])
    return f @ f.T


def joint_moments(levels: Sequence[Tensor]) -> Tensor:
    """The sum of f̃ f̃ᵀ over positions, computed without concatenating the levels.

    A level x enters f upsampled, as R x, with one matrix R for each axis. For two levels, the finer
    one can be resampled to the coarser grid instead: Σ (R x)(R' x')ᵀ = Σ x (Rᵀ R' x')ᵀ. The
    products then run over the positions of the coarser grid, which is a twelfth of the work at
    strides 4, 8 and 16.

    Args:
        levels: ``[B, C_l, H_l, W_l]``, finest first.

    Returns:
        ``[C + 1, C + 1]``.
    """
    # Here the constant is the finest level and comes first; in f̃ it comes last.
    parts = [torch.ones_like(levels[0][:, :1]), *levels]
    parts = [part.permute(0, 2, 3, 1) for part in parts]
    height, width = levels[0].shape[-2:]
    rows = [upsampling(part.shape[1], height, part) for part in parts]
    columns = [upsampling(part.shape[2], width, part) for part in parts]
    edges = [0, *itertools.accumulate(part.shape[-1] for part in parts)]
    spans = [slice(start, end) for start, end in itertools.pairwise(edges)]
    total = parts[0].new_empty(edges[-1], edges[-1])
    for a, coarse in enumerate(parts):
        for b, fine in enumerate(parts[: a + 1]):
            brought = fine
            if coarse.shape[1:3] != (height, width):
                brought = resampled(fine, rows[a].T @ rows[b], columns[a].T @ columns[b])
            block = coarse.flatten(0, 2).T @ brought.flatten(0, 2)
            total[spans[a], spans[b]] = block
            total[spans[b], spans[a]] = block.T
    return total.roll((-1, -1), dims=(0, 1))


def upsampling(source: int, target: int, like: Tensor) -> Tensor:
    """Bilinear upsampling along an axis, as a matrix ``[target, source]``."""
    return torch.as_tensor(upsampling_matrix(source, target), dtype=like.dtype, device=like.device)


def resampled(x: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Resample ``[B, H, W, C]`` to ``[B, h, w, C]`` by a matrix ``[h, H]`` and one ``[w, W]``."""
    batch, height, width, channels = x.shape
    x = (rows @ x.reshape(batch, height, width * channels)).view(batch, -1, width, channels)
    return columns @ x
