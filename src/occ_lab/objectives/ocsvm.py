"""One-class support vector machine over the training features."""

from __future__ import annotations

from typing import Literal, get_args

import torch
import torch.nn.functional as F
from sklearn.svm import OneClassSVM
from torch import Tensor

from occ_lab.objectives.kernels import kernel_gamma, log_kernel_sum
from occ_lab.objectives.neighbours import rows
from occ_lab.objectives.sampled import SampledObjective
from occ_lab.projectors import Projector
from occ_lab.utils.errors import check_number

Kernel = Literal["linear", "rbf"]


class OCSVM(SampledObjective):
    """A half-space that contains at least a fraction 1 − ν of the training features.

    (Schölkopf et al. 2001, Neural Computation 13(7).) It lies in the space of a kernel, one of the
    two of Sohn et al. 2021 (arXiv 2011.02578): ``k(x, y) = x · y`` of unscaled features, or
    ``exp(−γ ‖x − y‖²)`` of features scaled to length 1, with γ as in `kernel_gamma`. With the
    support vectors x_j the score is ``−Σ_j α_j k(x, x_j)``, without the offset, which is the same
    for all x.

    Args:
        kernel: ``linear`` or ``rbf``.
        nu: ν, above 0 and below 1: at most this fraction of the training features lies outside, and
            at least this fraction are support vectors.
        samples: the number of training positions to fit, at least 1; all of them if there are
            fewer. The time grows with their square.
        scale: the scale in γ, above 0; not used for ``linear``.
        chunk: the number of positions whose kernels with all support vectors are computed at a
            time, at least 1; None suits the device. Not used for ``linear``.
        seed: the seed of the random sample.

    Attributes:
        support: x_j ``[M, C]``; for ``linear`` the single vector ``Σ_j α_j x_j``; empty before
            `finish`.
        weights: α ``[M]``; for ``linear`` 1; empty before `finish`.
        gamma: γ, a scalar; 0 before `finish`, and for ``linear``.

    Raises:
        ValueError: an argument is out of range; the message begins with its name.

    Example:
        >>> levels = [torch.randn(6, 3, 8, 8), torch.randn(6, 5, 4, 4)]  # of six normal images
        >>> objective = OCSVM(samples=100)
        >>> projector = objective.default_projector([3, 5])
        >>> objective.observe(levels)
        >>> objective.finish(projector)
        >>> objective(projector(levels)).shape
        torch.Size([6, 8, 8])
    """

    support: Tensor
    weights: Tensor
    gamma: Tensor
    learned = ("support", "weights")

    def __init__(
        self,
        kernel: Kernel = "rbf",
        nu: float = 0.5,
        samples: int = 20_000,
        scale: float = 10.0,
        chunk: int | None = None,
        seed: int = 0,
    ) -> None:
        if kernel not in get_args(Kernel):
            raise ValueError(f"kernel must be {' or '.join(get_args(Kernel))}, got {kernel!r}")
        check_number("nu", nu, above=0)
        if nu >= 1:  # all α would be 1, and scikit-learn fails because there is no offset
            raise ValueError(f"nu must be a number and < 1, got {nu!r}")
        check_number("samples", samples, at_least=1, integer=True)
        check_number("scale", scale, above=0)
        if chunk is not None:
            check_number("chunk", chunk, at_least=1, integer=True)
        super().__init__(samples, seed)
        self.kernel = kernel
        self.nu = nu
        self.scale = scale
        self.chunk = chunk
        self.register_buffer("support", torch.empty(0, 0))
        self.register_buffer("weights", torch.empty(0))
        self.register_buffer("gamma", torch.tensor(0.0))

    def finish(self, projector: Projector) -> None:
        """Fit the support vector machine to the sample.

        Raises:
            InputError: γ is undefined, nothing was observed, or the projector is not `Identity`.
        """
        super().finish(projector)
        vectors = self._vectors(self.sample.taken())
        if self.kernel == "rbf":
            self.gamma = kernel_gamma(vectors, self.scale)
        machine = OneClassSVM(kernel=self.kernel, gamma=float(self.gamma), nu=self.nu)
        machine.fit(vectors.cpu().numpy())
        support = torch.from_numpy(machine.support_vectors_)
        weights = torch.from_numpy(machine.dual_coef_[0])
        if self.kernel == "linear":  # Σ α_j (x · x_j) = x · Σ α_j x_j
            support, weights = weights[None] @ support, weights.new_ones(1)
        self.support, self.weights = support.to(vectors), weights.to(vectors)

    def forward(self, z: Tensor) -> Tensor:
        """Scores ``[B, H, W]`` of maps ``[B, C, H, W]``.

        Raises:
            RuntimeError: the objective is not fitted.
        """
        self._check_fitted()
        with torch.autocast(z.device.type, enabled=False):
            x = self._vectors(rows(z))
            if self.kernel == "linear":
                sums = x @ self.support.T @ self.weights
            else:
                logs = log_kernel_sum(x, self.support, self.weights, self.gamma, self.chunk)
                sums = logs.exp()
        return -sums.reshape(len(z), *z.shape[-2:])

    def _vectors(self, features: Tensor) -> Tensor:
        features = features.to(self.support.dtype)
        return F.normalize(features) if self.kernel == "rbf" else features
