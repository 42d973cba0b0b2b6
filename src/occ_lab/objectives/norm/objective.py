"""The norm-space objective: a target of a suitable norm instead of a hypersphere's centre."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from occ_lab.objectives.base import Objective, mean_feature
from occ_lab.objectives.norm.closed_form import expected_factor
from occ_lab.objectives.norm.flow_time import FlowTime
from occ_lab.objectives.norm.moments import HalvedMoments
from occ_lab.projectors import Conv1x1
from occ_lab.utils.errors import check_number

log = logging.getLogger(__name__)

Target = Literal["randn", "rand", "ones", "mean"]
Solver = Literal["gradient", "closed_form"]


class Norm(Objective):
    """Distance to a fixed target ``c = norm · v/‖v‖_p`` (Gao et al. 2023, arXiv 2308.11898).

    Of the structured form, the loss is ``(1/ν) · mean relu(‖z − c‖₂ − r^p)`` and the score
    ``‖z − c‖₂``; the semantic form (``squared``) takes the squared distance in both. Either adds
    ``radius_weight · r``. The radius r is learned.

    The closed form (``solver="closed_form"``) is the limit of small steps on the squared distance,
    averaged over the projector's initial weights; ν and r play no part in it. It needs one pass for
    the second moments of the features, sets the projector to a factor of the score, and the target
    to zero.

    Args:
        channels: channels of the feature map.
        levels: the channels of each level that the projector takes.
        solver: ``gradient`` or ``closed_form``.
        time: how far the closed form follows the gradient flow, in units of the mean diagonal of
            the second moments, at least 0; or ``auto``, see `FlowTime`.
        normalize: whether the projector scales each feature vector to length √C.
        norm: the p-norm of the target, above 0.
        p: which norm, at least 1; ``inf`` is the largest component.
        target: what ``v`` is: ``randn``, ``rand`` or ``ones``, or ``mean``, the mean projected
            training feature.
        squared: whether the distance is squared.
        nu: ν, above 0.
        radius: what r starts from, at least 0.
        radius_weight: how much r itself costs, at least 0.
        seed: seed of ``v``.
    """

    target: Tensor
    learned = ("target",)  # the closed form has as many rows as it needs

    def __init__(
        self,
        channels: int,
        levels: Sequence[int],
        solver: Solver = "gradient",
        time: float | Literal["auto"] = "auto",
        normalize: bool = False,
        norm: float = 1.0,
        p: float = 2.0,
        target: Target = "randn",
        squared: bool = False,
        nu: float = 1e-3,
        radius: float = 1e-5,
        radius_weight: float = 0.0,
        seed: int = 0,
    ) -> None:
        if solver not in get_args(Solver):
            raise ValueError(f"solver must be one of {', '.join(get_args(Solver))}, got {solver!r}")
        if time != "auto":
            check_number("time", time, at_least=0)
        check_number("norm", norm, above=0)
        check_number("p", p, at_least=1)
        if target not in get_args(Target):
            raise ValueError(f"target must be one of {', '.join(get_args(Target))}, got {target!r}")
        check_number("nu", nu, above=0)
        check_number("radius", radius, at_least=0)
        check_number("radius_weight", radius_weight, at_least=0)
        super().__init__()
        self.norm = norm
        self.p = p
        self.squared = squared
        self.nu = nu
        self.radius_weight = radius_weight
        self.channels = channels
        self.time = time
        self.one_pass = solver == "closed_form"
        self.needs_setup = target == "mean" and not self.one_pass
        if self.one_pass:
            self.moments = HalvedMoments(levels, normalize)
            self.flow_time = FlowTime(levels, normalize, seed) if time == "auto" else None
        self.radius = nn.Parameter(torch.tensor(float(radius)))
        direction = torch.ones(channels)
        if target in ("randn", "rand"):
            generator = torch.Generator().manual_seed(seed)
            draw = torch.randn if target == "randn" else torch.rand
            direction = draw(channels, generator=generator)
        self.register_buffer("target", self._scaled(direction))
        self.length = float(torch.linalg.vector_norm(self.target))  # ‖c‖₂, all the closed form asks

    def _scaled(self, direction: Tensor) -> Tensor:
        return self.norm * direction / torch.linalg.vector_norm(direction, ord=self.p)

    def setup(self, feature_maps: Iterable[Tensor]) -> None:
        """Point the target to the mean feature of maps ``[B, C, H, W]``."""
        self.target = self._scaled(mean_feature(feature_maps)).to(self.target)

    def observe(self, levels: Sequence[Tensor]) -> None:
        """Add a batch of levels ``[B, C_l, H_l, W_l]`` to the second moments."""
        _, held_out = self.moments.update(levels)
        if self.flow_time:
            self.flow_time.observe(held_out)

    def finish(self, projector: Conv1x1) -> None:
        """Solve, and set the projector so that its distance to a target of zero is the score."""
        self.moments.reduce()
        if told := self.choose_time():
            tried = ", ".join(f"{t:g}: {auroc:.3f}" for t, auroc in told.items())
            log.info(
                "time=auto: t = %g (AUROC of cut-and-pasted features by t: %s)", self.time, tried
            )
        self.solve(projector)

    def choose_time(self) -> dict[float, float]:
        """Choose t by what was observed, where it is ``auto``; see `FlowTime.choose`."""
        if not self.flow_time:
            return {}
        half = self.moments.half_mean(0)
        self.time, told = self.flow_time.choose(half, self.channels, self.length)
        return told

    def solve(self, projector: Conv1x1) -> None:
        """Set projector and target by the moments of what was observed, at the time as it is."""
        factor = expected_factor(self.moments.mean, self.channels, self.length, float(self.time))
        projector.assign(factor)
        self.target = self.target.new_zeros(len(factor))

    def loss(self, z: Tensor) -> Tensor:
        """``(1/ν) · mean relu(d − r^p) + radius_weight · r``, d the distance to the target."""
        # r^p → 0 as p → ∞ for r < 1, where it starts; the limit itself would have no gradient.
        margin = 0 * self.radius if self.p == float("inf") else self.radius**self.p
        excess = torch.relu(self.score(z) - margin).mean()
        return excess / self.nu + self.radius_weight * self.radius

    def facts(self) -> dict[str, Tensor]:
        """The radius r."""
        return {"radius": self.radius.detach()}

    def score(self, z: Tensor) -> Tensor:
        """Distance ``[B, H, W]`` to the target, squared in the semantic form."""
        difference = z - self.target[:, None, None]
        if self.squared:
            return difference.square().sum(dim=1)
        return torch.linalg.vector_norm(difference, dim=1)
