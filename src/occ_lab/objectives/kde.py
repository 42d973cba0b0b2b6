"""Kernel density estimate of the training features."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from occ_lab.objectives.kernels import kernel_gamma, log_kernel_sum
from occ_lab.objectives.neighbours import rows
from occ_lab.objectives.sampled import SampledObjective
from occ_lab.projectors import Projector
from occ_lab.utils.errors import check_number


class KDE(SampledObjective):
    """Negative log density under Gaussian kernels at the training features.

    (Sohn et al. 2021, arXiv 2011.02578.) With x and the N training features x_j scaled to length 1,
    the score is ``−(1/γ) log mean_j exp(−γ ‖x − x_j‖²)``, with γ as in `kernel_gamma`. It is a soft
    minimum of the squared distances, from 0 to 4, and equals the score of the paper's code,
    ``−(1/γ) log Σ_j exp(2 γ x · x_j)``, plus ``2 + (log N)/γ``.

    Args:
        samples: the number of training positions to keep, at least 1; all of them if there are
            fewer.
        scale: the scale in γ, above 0; 10 in the paper's code.
        chunk: the number of positions whose kernels with all kept ones are computed at a time, at
            least 1; None suits the device.
        seed: the seed of the random sample.

    Attributes:
        bank: the kept training features, of length 1, ``[M, C]``; empty before `finish`.
        gamma: γ, a scalar; 0 before `finish`.

    Raises:
        ValueError: an argument is out of range; the message begins with its name.

    Example:
        >>> levels = [torch.randn(6, 3, 8, 8), torch.randn(6, 5, 4, 4)]  # of six normal images
        >>> objective = KDE(samples=100)
        >>> projector = objective.default_projector([3, 5])
        >>> objective.observe(levels)
        >>> objective.finish(projector)
        >>> objective(projector(levels)).shape
        torch.Size([6, 8, 8])
    """

    bank: Tensor
    gamma: Tensor
    learned = ("bank",)

    def __init__(
        self,
        samples: int = 20_000,
        scale: float = 10.0,
        chunk: int | None = None,
        seed: int = 0,
    ) -> None:
        check_number("samples", samples, at_least=1, integer=True)
        check_number("scale", scale, above=0)
        if chunk is not None:
            check_number("chunk", chunk, at_least=1, integer=True)
        super().__init__(samples, seed)
        self.scale = scale
        self.chunk = chunk
        self.register_buffer("bank", torch.empty(0, 0))
        self.register_buffer("gamma", torch.tensor(0.0))

    def finish(self, projector: Projector) -> None:
        """Keep the sample, and compute γ from it.

        Raises:
            InputError: γ is undefined, nothing was observed, or the projector is not `Identity`.
        """
        super().finish(projector)
        self.bank = self._vectors(self.sample.taken())
        self.gamma = kernel_gamma(self.bank, self.scale)

    def forward(self, z: Tensor) -> Tensor:
        """Scores ``[B, H, W]`` of maps ``[B, C, H, W]``.

        Raises:
            RuntimeError: the objective is not fitted.
        """
        self._check_fitted()
        weights = self.bank.new_full((len(self.bank),), 1 / len(self.bank))
        with torch.autocast(z.device.type, enabled=False):
            x = self._vectors(rows(z))
            density = log_kernel_sum(x, self.bank, weights, self.gamma, self.chunk)
        return (-density / self.gamma).reshape(len(z), *z.shape[-2:])

    def _vectors(self, features: Tensor) -> Tensor:
        return F.normalize(features.to(self.bank.dtype))
