"""Deep support vector data description: a hypersphere around the normal features."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from occ_lab.objectives.base import Objective, mean_feature
from occ_lab.projectors import Conv1x1, Projector
from occ_lab.utils.errors import check_number

Boundary = Literal["hard", "soft"]
NEAR_ZERO = 0.1  # zero weights could reproduce components of the centre nearer to zero


class DeepSVDD(Objective):
    """Distance to a fixed centre (Ruff et al. 2018, "Deep One-Class Classification", ICML).

    The centre is the mean initial output, with components nearer to 0 than 0.1 pushed to ±0.1. Let
    d² be the squared distance of a position to it. With the hard boundary ("one-class", equation 4)
    the loss is ``mean d²`` and the score d². With the soft boundary (equation 3) the loss is
    ``R² + (1/ν) · mean relu(d² − R²)`` and the score d² − R². R is not a parameter: after the
    warm-up it is set to the (1 − ν)-quantile of the distances of every batch.

    Args:
        boundary: ``hard`` or ``soft``.
        nu: ν of the soft boundary, the fraction of normal positions outside of it, above 0 and at
            most 1.
        warmup: the number of epochs before R is set for the first time, at least 0.
        projector_bias: whether the convolution of `default_projector` has a bias. The paper has
            none: a bias could map every feature to the centre (proposition 2).

    Attributes:
        centre: ``[C]``; empty before `setup`.
        radius: R, a scalar.

    Raises:
        ValueError: an argument is out of range; the message begins with its name.

    Example:
        >>> objective = DeepSVDD()
        >>> z = torch.randn(4, 24, 7, 7) + 1  # feature maps of four normal images
        >>> objective.setup([z])
        >>> objective.loss(z).shape, objective(z).shape
        (torch.Size([]), torch.Size([4, 7, 7]))
    """

    centre: Tensor
    radius: Tensor
    needs_setup = True
    learned = ("centre",)

    def __init__(
        self,
        boundary: Boundary = "hard",
        nu: float = 0.1,
        warmup: int = 10,
        projector_bias: bool = False,
    ) -> None:
        if boundary not in get_args(Boundary):
            raise ValueError(f"boundary must be hard or soft, got {boundary!r}")
        check_number("nu", nu, above=0, at_most=1)
        check_number("warmup", warmup, at_least=0, integer=True)
        super().__init__()
        self.soft = boundary == "soft"
        self.nu = nu
        self.warmup = warmup
        self.warm = warmup == 0
        self.projector_bias = projector_bias
        self.register_buffer("centre", torch.empty(0))
        self.register_buffer("radius", torch.tensor(0.0))

    def default_projector(self, channels: Sequence[int]) -> Projector:
        """A 1×1 convolution, with a bias only if ``projector_bias``."""
        return Conv1x1(channels, bias=self.projector_bias)

    def configure_optimizer(self, parameters: Iterable[nn.Parameter]) -> Optimizer:
        """Adam with little weight decay, as in the authors' code."""
        return Adam(parameters, lr=1e-3, weight_decay=5e-7)

    def setup(self, feature_maps: Iterable[Tensor]) -> None:
        """Set the centre to the mean feature of maps ``[B, C, H, W]``.

        Raises:
            InputError: there are no maps.
        """
        centre = mean_feature(feature_maps).to(self.centre)
        near = centre.abs() < NEAR_ZERO
        self.centre = torch.where(near, NEAR_ZERO * torch.where(centre < 0, -1.0, 1.0), centre)

    def start_epoch(self, epoch: int) -> None:
        """Start to set R when the warm-up is over; epochs are counted from 0."""
        self.warm = epoch >= self.warmup

    def loss(self, z: Tensor) -> Tensor:
        """The loss, a scalar, of maps ``[B, C, H, W]``.

        Raises:
            RuntimeError: there is no centre yet.
        """
        squared = self._squared(z)
        if not self.soft:
            return squared.mean()
        loss = self.radius**2 + torch.relu(squared - self.radius**2).mean() / self.nu
        if self.warm and self.training:  # held-out images must not set R
            self.radius = squared.detach().flatten().sqrt().quantile(1 - self.nu)
        return loss

    def facts(self) -> dict[str, Tensor]:
        """The radius R of the soft boundary."""
        return {"radius": self.radius} if self.soft else {}

    def forward(self, z: Tensor) -> Tensor:
        """Scores ``[B, H, W]`` of maps ``[B, C, H, W]``: d², or d² − R² with the soft boundary.

        Raises:
            RuntimeError: there is no centre yet.
        """
        squared = self._squared(z)
        return squared - self.radius**2 if self.soft else squared

    def _squared(self, z: Tensor) -> Tensor:
        self._check_fitted()
        return (z - self.centre[:, None, None]).square().sum(dim=1)
