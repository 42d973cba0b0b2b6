"""PaDiM: a Gaussian for every position of the grid."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from occ_lab.features.levels import join, pieces
from occ_lab.objectives.base import check_same
from occ_lab.objectives.gaussian import inverse_factor, mean_and_covariance
from occ_lab.objectives.joined import JoinedObjective
from occ_lab.projectors import Projector
from occ_lab.utils.errors import InputError, check_number
from occ_lab.utils.precision import float64_device
from occ_lab.utils.processes import all_reduced

POSITIONS = 256  # solved at a time


class PaDiM(JoinedObjective):
    """Mahalanobis distance to the Gaussian of a position (Defard et al. 2020, arXiv 2011.08785).

    A random choice of ``dims`` channels of the concatenated levels is kept. Each position of the
    grid has a mean and a covariance over the training images (equation 1, here divided by N instead
    of N − 1), and the score is the Mahalanobis distance (equation 2). The paper adds 0.01 I to
    every covariance, which suits features of one scale. Here it is ``s v I``, see `inverse_factor`,
    where v is the variance averaged over channels and positions. It follows the scale of the
    features and is the same at every position, as in the paper, so that the distance is also
    defined at a position where nothing ever varies.

    The pass holds ``H W (dims + 1)²`` float64 numbers and leaves ``H W dims²`` float32 numbers,
    which the checkpoint contains too: 256 MB and 125 MB for 100 channels on a grid of 56 × 56, and
    30 times as much for 550 channels.

    Args:
        dims: the number of channels to keep, at least 1; all of them if there are fewer. The paper
            uses 100 for ResNet-18 and 550 for WideResNet-50-2.
        shrinkage: s of `inverse_factor`, from 0 to 1.
        seed: the seed of the choice of channels.

    Attributes:
        chosen: the indices of the kept channels, ascending, int64 ``[D]``; empty before `build`.
        mean: ``[H·W, D]``; empty before `finish`.
        factor: an inverse Cholesky factor for each position, ``[H·W, D, D]``; empty before
            `finish`.

    Raises:
        ValueError: an argument is out of range; the message begins with its name.

    Example:
        >>> levels = [torch.randn(6, 3, 8, 8), torch.randn(6, 5, 4, 4)]  # of six normal images
        >>> objective = PaDiM(dims=4)
        >>> projector = objective.default_projector([3, 5])
        >>> objective.observe(levels)
        >>> objective.finish(projector)
        >>> objective(projector(levels)).shape
        torch.Size([6, 8, 8])
    """

    chosen: Tensor
    mean: Tensor
    factor: Tensor
    located = True
    learned = ("chosen", "mean", "factor")

    def __init__(self, dims: int = 100, shrinkage: float = 0.01, seed: int = 0) -> None:
        check_number("dims", dims, at_least=1, integer=True)
        check_number("shrinkage", shrinkage, at_least=0, at_most=1)
        super().__init__()
        self.dims = dims
        self.shrinkage = shrinkage
        self.seed = seed
        self.channels: int | None = None
        self.moments: Tensor | None = None
        self.register_buffer("chosen", torch.empty(0, dtype=torch.long))
        self.register_buffer("mean", torch.empty(0, 0))
        self.register_buffer("factor", torch.empty(0, 0, 0))

    def build(self, channels: int) -> None:
        """Choose the channels to keep at random.

        Args:
            channels: C, at least 1.

        Raises:
            ValueError: it was built for another number of channels before.
        """
        check_number("channels", channels, at_least=1, integer=True)
        check_same(self.channels, channels)
        self.channels = channels
        if not len(self.chosen):  # otherwise it was loaded from a checkpoint
            chosen = np.random.default_rng(self.seed).permutation(channels)[: self.dims]
            self.chosen = torch.from_numpy(np.sort(chosen)).to(self.chosen)

    @torch.no_grad()
    def observe(self, levels: Sequence[Tensor], valid: Tensor | None = None) -> None:
        """Add a batch of levels to the second moments of each position.

        Args:
            levels: ``[B, C_l, H_l, W_l]``, finest first.
            valid: the positions that count, bool ``[B, H, W]``; None counts all.
        """
        if not len(self.chosen):
            self.build(sum(level.shape[1] for level in levels))
        x = torch.cat([self._positions(join(piece)) for piece in pieces(levels)], dim=1)
        x = x.to(float64_device(x.device)).double()
        x = torch.cat([x, x.new_ones(*x.shape[:2], 1)], dim=2)
        if valid is not None:
            x *= valid.flatten(1).T[..., None].to(x.device)
        if self.moments is None:
            self.moments = x.new_zeros(len(x), x.shape[2], x.shape[2])
        self.moments.baddbmm_(x.mT, x)

    def finish(self, projector: Projector) -> None:
        """Compute the mean and the inverse factor of every position.

        Raises:
            InputError: a covariance is singular, nothing was observed, or the projector is not
                `Identity`.
        """
        super().finish(projector)
        if self.moments is None:
            raise InputError("the training set has no images", part="dataset")
        total = all_reduced(self.moments)
        # A position that no image has covered gets the Gaussian of all positions.
        counts = total[:, -1:, -1:].clone()
        moments = total.div_(counts.clamp_min(1))
        if bool((counts == 0).any()):
            pooled = (moments * counts).sum(dim=0) / counts.sum()
            moments = torch.where(counts > 0, moments, pooled)
        squares = moments.diagonal(dim1=1, dim2=2)[:, :-1]
        scale = (squares - moments[:, :-1, -1].square()).mean().cpu()
        means, factors = [], []
        for part in torch.split(moments, POSITIONS):
            mean, covariance = mean_and_covariance(part.cpu())
            means.append(mean.float())
            factors.append(inverse_factor(covariance, self.shrinkage, scale).float())
        self.mean = torch.cat(means).to(self.mean.device)
        self.factor = torch.cat(factors).to(self.factor.device)
        self.moments = None

    def forward(self, z: Tensor) -> Tensor:
        """Distance ``[B, H, W]`` of maps ``[B, C, H, W]`` to the Gaussians of their positions.

        Raises:
            RuntimeError: the objective is not fitted.
        """
        self._check_fitted()
        with torch.autocast(z.device.type, enabled=False):
            x = self._positions(z).to(self.mean.dtype) - self.mean[:, None]
            distance: Tensor = torch.linalg.vector_norm(x @ self.factor.mT, dim=2)
        return distance.T.reshape(len(z), *z.shape[-2:])

    def _positions(self, z: Tensor) -> Tensor:
        """The chosen channels of maps ``[B, C, H, W]``, ``[H·W, B, D]``."""
        return z[:, self.chosen].flatten(2).permute(2, 0, 1)
