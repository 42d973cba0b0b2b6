"""The norm-space objective: a target of a suitable norm instead of a hypersphere's centre."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Sequence
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from occ_lab.features.regions import contents
from occ_lab.objectives.base import Objective, check_same, mean_feature
from occ_lab.objectives.norm.closed_form import factor_of, initial_moment, spectrum
from occ_lab.objectives.norm.flow_time import FlowTime
from occ_lab.objectives.norm.local_form import (
    INTEGRATED,
    Spectra,
    decomposed,
    factors,
    flow_form,
    flow_spectra,
    solved_form,
    solved_spectra,
)
from occ_lab.objectives.norm.local_moments import MEMORY_MB, LocalMoments
from occ_lab.objectives.norm.moments import HalvedMoments
from occ_lab.projectors import Conv1x1, LocalProjector, Projector
from occ_lab.utils.errors import InputError, check_number

log = logging.getLogger(__name__)

Target = Literal["randn", "rand", "ones", "mean"]
Solver = Literal["gradient", "closed_form"]
Bias = Literal["flow", "solved"]
CELL = 4  # positions along a side: a patch of 16 × 16 pixels at stride 4
LARGEST_NORM = 1e12  # keeps squared distances to a target well within float32
LONGEST_TIME = 1e4  # a longer flow would fit the rounding errors of float32 features


class Norm(Objective):
    """Distance to a fixed target ``c = norm · v/‖v‖_p`` (Gao et al. 2023, arXiv 2308.11898).

    In the structured form the loss is ``(1/ν) · mean relu(‖z − c‖₂ − r^p)`` and the score
    ``‖z − c‖₂``. The semantic form (``squared``) uses the squared distance in both. Either form
    adds ``radius_weight · r`` to the loss. The radius r is learned.

    The closed form, which is the default, is the limit of small gradient steps on the squared
    distance, averaged over the projector's initial weights; it does not depend on ν and r. It
    computes the second moments of the features in one pass, sets the projector to a factor of the
    score, and sets the target to zero. By default it has a projector for every cell of a grid and a
    bias for every position, see `occ_lab.objectives.norm.local_form`, so it also detects parts that
    are in the wrong place. A bias that is solved for removes the target from the score, so
    ``norm`` has no effect in this case. ``solver="gradient"`` is the training of the paper.

    Args:
        channels: the number of channels of the feature map; None leaves them to `build`.
        solver: ``closed_form`` or ``gradient``.
        time: how long the closed form follows the gradient flow, in units of the mean diagonal of
            the second moments, from 0 to 1e4. ``integrated`` adds the squared scores of t = 1, 3,
            10 and 30, each divided by its mean over the training positions. ``auto`` chooses a
            single time, see `FlowTime`; it requires a bias that follows the flow.
        cell: the number of positions along a side of a cell, at least 1; in the closed form, each
            cell has its own projector. None uses one projector for all positions. ``auto`` is 4,
            but None if the time is chosen automatically, with gradients, or for images in tiles.
        bias: ``flow``: the bias follows the gradient flow, as the weights do; ``solved``: the mean
            feature is subtracted at every position (only in the closed form); or ``auto``, which is
            ``solved`` wherever that is possible.
        memory_mb: the limit for the second moments of all cells, in MB, above 0; if it would be
            exceeded, cells are enlarged, see `LocalMoments`.
        normalize: whether the projector scales each feature vector to length √C.
        norm: the p-norm of the target, above 0 and at most 1e12.
        p: the order of the norm, at least 1; ``inf`` (a number or a string) is the largest
            component.
        target: the direction ``v``: ``randn``, ``rand`` or ``ones``, or ``mean``, the mean
            projected training feature (only with ``solver="gradient"``).
        squared: whether the distance is squared.
        nu: ν, above 0.
        radius: the initial value of r, at least 0.
        radius_weight: the weight of r itself in the loss, at least 0.
        seed: the seed of ``v``.

    Attributes:
        target: c ``[C]``; empty before `build`.
        radius: r, a scalar.
        channels: C, or None before `build`.
        local: the moments of positions and cells, if the closed form is local.

    Raises:
        ValueError: an argument is out of range.

    Example:
        >>> objective = Norm(channels=176, norm=2.0)
        >>> z = torch.randn(2, 176, 14, 14)  # feature maps of two images
        >>> objective(z).shape
        torch.Size([2, 14, 14])
        >>> float(objective.target.norm().round(decimals=4))
        2.0
    """

    target: Tensor
    located = True  # in the closed form
    of_pass = ("local", "moments", "flow_time", "spectra")
    learned = ("target",)  # the closed form has as many rows as it needs

    def __init__(
        self,
        channels: int | None = None,
        solver: Solver = "closed_form",
        time: float | Literal["auto", "integrated"] = "integrated",
        cell: int | Literal["auto"] | None = "auto",
        bias: Bias | Literal["auto"] = "auto",
        memory_mb: float = MEMORY_MB,
        normalize: bool = False,
        norm: float = 1.0,
        p: float | Literal["inf", ".inf"] = 2.0,
        target: Target = "randn",
        squared: bool = False,
        nu: float = 1e-3,
        radius: float = 1e-5,
        radius_weight: float = 0.0,
        seed: int = 0,
    ) -> None:
        if solver not in get_args(Solver):
            raise ValueError(f"solver must be one of {', '.join(get_args(Solver))}, got {solver!r}")
        if time not in ("auto", "integrated"):
            check_number("time", time, at_least=0, at_most=LONGEST_TIME)
        local = solver == "closed_form" and time != "auto"
        if bias == "auto":
            bias = "solved" if local else "flow"
        if bias not in get_args(Bias):
            raise ValueError(f"bias must be auto, flow or solved, got {bias!r}")
        chosen = cell == "auto"
        if cell == "auto":
            cell = CELL if local else None
        if cell is not None:
            check_number("cell", cell, at_least=1, integer=True)
        if bias == "solved" and time == "auto":
            raise ValueError(
                "time must be integrated or a number with bias=solved, got 'auto', which chooses "
                "it for a bias that follows the flow"
            )
        if solver == "gradient" and (cell is not None or bias == "solved"):
            name, default = ("cell", "null") if cell is not None else ("bias", "flow")
            raise ValueError(
                f"{name} must be {default} with solver=gradient, because it belongs to the closed "
                "form; a trained LocalProjector has cells of its own"
            )
        check_number("memory_mb", memory_mb, above=0)
        check_number("norm", norm, above=0, at_most=LARGEST_NORM)
        order = math.inf if p in ("inf", ".inf") else p  # some YAML parsers read .inf as a string
        check_number("p", order, at_least=1)
        if target not in get_args(Target):
            raise ValueError(f"target must be one of {', '.join(get_args(Target))}, got {target!r}")
        if target == "mean" and solver == "closed_form":
            raise ValueError(
                "target must be randn, rand or ones with solver=closed_form, got 'mean': only the "
                "target's norm enters the closed form"
            )
        check_number("nu", nu, above=0)
        check_number("radius", radius, at_least=0)
        check_number("radius_weight", radius_weight, at_least=0)
        check_number("seed", seed, at_least=0, integer=True)
        super().__init__()
        self.channels: int | None = None
        self.time = time
        self.normalize = normalize
        self.norm = norm
        self.p = float(order)
        self.direction = target
        self.squared = squared
        self.nu = nu
        self.radius_weight = radius_weight
        self.seed = seed
        self.one_pass = solver == "closed_form"
        self.needs_setup = target == "mean"
        self.cell = cell
        self.default_cell = chosen
        self.bias = bias
        self.local: LocalMoments | None = None
        self.spectra: Spectra | tuple[Tensor, Tensor] | None = None  # from `prepare` to `finish`
        # A choice of the time divides the images into halves as they come.
        self.in_order = self.one_pass and time != "auto"
        if self.one_pass:
            if cell is not None or bias == "solved":
                self.local = LocalMoments(cell, normalize, memory_mb)
            self.moments = HalvedMoments(normalize)
            self.flow_time = FlowTime(normalize, seed) if time == "auto" else None
        self.radius = nn.Parameter(torch.tensor(float(radius)))
        self.register_buffer("target", torch.empty(0))
        if channels is not None:
            self.build(channels)

    def build(self, channels: int) -> None:
        """Draw the target.

        Args:
            channels: C, at least 1.

        Raises:
            ValueError: it was built for another number of channels before.
        """
        check_number("channels", channels, at_least=1, integer=True)
        check_same(self.channels, channels)
        if len(self.target) and not self.one_pass:  # loaded from a checkpoint
            check_same(len(self.target), channels)
        if self.channels is not None:
            return
        self.channels = channels
        direction = torch.ones(channels)
        if self.direction in ("randn", "rand"):
            generator = torch.Generator().manual_seed(self.seed)
            draw = torch.randn if self.direction == "randn" else torch.rand
            direction = draw(channels, generator=generator)
        # ‖c‖₂, all that the closed form needs; for p = 2 it is the norm exactly, whatever the seed.
        lengths = [float(torch.linalg.vector_norm(direction, ord=p)) for p in (2.0, self.p)]
        self.length = self.norm * lengths[0] / lengths[1]
        if not len(self.target):
            self.target = self._scaled(direction).to(self.target)

    def _scaled(self, direction: Tensor) -> Tensor:
        scaled: Tensor = self.norm * direction / torch.linalg.vector_norm(direction, ord=self.p)
        return scaled

    def default_projector(self, channels: Sequence[int]) -> Projector:
        """`Conv1x1`, or `LocalProjector` with ``cell`` or a solved bias."""
        if self.local is not None:
            return LocalProjector(channels, self.cell, self.normalize)
        return Conv1x1(channels, normalize=self.normalize)

    def see_tiles(self, projector: nn.Module) -> None:
        """Use one cell for all positions, unless a cell size is given."""
        local = self.local
        if self.default_cell and self.cell is not None and local is not None:
            self.cell = None
            self.local = LocalMoments(None, local.normalize, local.memory_mb).to(local.sums.device)
            if isinstance(projector, LocalProjector):
                projector.cell = None

    def setup(self, feature_maps: Iterable[Tensor]) -> None:
        """Set the direction of the target to the mean feature of maps ``[B, C, H, W]``.

        Raises:
            InputError: there are no maps.
        """
        self.target = self._scaled(mean_feature(feature_maps)).to(self.target)

    def observe(self, levels: Sequence[Tensor], valid: Tensor | None = None) -> None:
        """Add a batch to the second moments.

        Args:
            levels: ``[B, C_l, H_l, W_l]``, finest first.
            valid: the positions that count, bool ``[B, H, W]``; None counts all.

        Raises:
            TypeError: the solver is ``gradient``.
            InputError: the images differ in size although each cell has its own projector.
        """
        if not self.one_pass:
            super().observe(levels)
        if self.local is not None:
            self.local.update(levels, valid)
            if not self.flow_time:
                return
        for part in [levels] if valid is None else [[each] for each in contents(levels, valid)]:
            _, held_out = self.moments.update(part)
            if self.flow_time:
                self.flow_time.observe(held_out)

    def pass_settings(self) -> dict[str, Any] | None:
        """What its moments depend on; neither norm, p and target nor the length of the flow."""
        if not self.one_pass:
            return None
        return {
            "cell": self.cell,
            "bias": self.bias,
            "normalize": self.normalize,
            "memory_mb": None if self.local is None else self.local.memory_mb,
            "time": self.time if isinstance(self.time, str) else "given",
            "seed": self.seed if self.flow_time else None,
        }

    def finish_settings(self) -> dict[str, Any] | None:
        """What the solution depends on; a time that is chosen is not part of the state."""
        if self.flow_time:
            return None
        pull = None if self.bias == "solved" else self.length
        return {"time": self.time, "length": pull, "radius": float(self.radius.detach())}

    def score_settings(self) -> dict[str, Any]:
        """What its scores depend on; all else is in the target and the projector by now."""
        return {"one_pass": self.one_pass, "squared": self.squared}

    def start_epoch(self, epoch: int) -> None:
        """Say what has no effect."""
        if self.one_pass and self.bias == "solved" and self.norm != 1:
            log.info("norm=%g has no effect: bias=solved removes the target's effect", self.norm)

    def prepare(self) -> None:
        """Decompose the moments."""
        if self.images:
            self.spectra = self._decomposed()

    def _decomposed(self) -> Spectra | tuple[Tensor, Tensor]:
        """The eigenvalues and eigenvectors of the moments, as `solve` needs them."""
        if self.local is not None:
            solved = self.bias == "solved"
            return solved_spectra(self.local) if solved else flow_spectra(self.local)
        if self.time == "integrated":
            return decomposed(self.moments.mean[None], torch.ones(1, dtype=torch.float64))
        return spectrum(self.moments.mean)

    def finish(self, projector: Projector) -> None:
        """Solve, and set the projector so that the length of its output is the score.

        Raises:
            InputError: the projector cannot be set, or nothing is left of the features at ``time``.
        """
        if self.local is not None:
            self.local.reduce()
        self.moments.build(projector.channels)  # in case this process has seen no image
        self.moments.reduce()
        if aurocs := self.choose_time(projector):
            tried = ", ".join(f"{t:g}: {auroc:.3f}" for t, auroc in aurocs.items())
            log.info(
                "time=auto: t = %g (AUROC of cut-and-pasted features by t: %s)", self.time, tried
            )
        self.solve(projector)
        self.spectra = None

    def choose_time(self, projector: Projector) -> dict[float, float]:
        """Choose t from the observed features if it is ``auto``.

        Returns:
            The AUROC of each time that was tried, see `FlowTime.choose`; empty if t is given.
        """
        if not self.flow_time:
            return {}
        channels = self._built_for(projector)
        half = self.moments.half_mean(0)
        self.time, aurocs = self.flow_time.choose(half, projector.channels, channels, self.length)
        return aurocs

    def solve(self, projector: Projector) -> None:
        """Set the projector and the target from the observed moments, at the current time t.

        Raises:
            InputError: the projector cannot be set, or nothing is left of the features at ``time``.
        """
        channels = self._built_for(projector)
        moment = initial_moment(sum(projector.channels), channels)
        times = INTEGRATED if self.time == "integrated" else (float(self.time),)
        if self.local is not None and not self.local.n:  # of all processes
            raise InputError("the training set has no images", part="dataset")
        found = self._decomposed() if self.spectra is None else self.spectra
        if not isinstance(found, Spectra):
            projector.assign(factor_of(*found, channels, self.length, *times))
        elif self.local is None:
            projector.assign(factors(found, times, moment, self.length)[0])
        else:
            if self.bias == "solved":
                form = solved_form(found, times, moment)
            else:
                form = flow_form(found, times, moment, self.length)
            cell = projector.cell if isinstance(projector, LocalProjector) else self.cell
            if cell != self.cell:
                raise InputError(
                    f"cell: the projector has cells of {cell} positions a side, but the objective "
                    f"has cells of {self.cell}",
                    part="projector",
                )
            projector.assign_cells(form.weight, form.bias, form.mean)
        self.target = self.target.new_zeros(projector.out_channels)

    @property
    def images(self) -> int:
        """The number of images that the closed form has learned from."""
        return self.moments.seen if self.local is None else self.local.seen

    def _built_for(self, projector: Projector) -> int:
        if self.channels is None:
            self.build(projector.out_channels)
        assert self.channels is not None
        return self.channels

    def loss(self, z: Tensor) -> Tensor:
        """``(1/ν) · mean relu(d − r^p) + radius_weight · r``, d the distance to the target."""
        # r^p → 0 as p → ∞ for the initial r < 1, but the limit itself would have no gradient.
        margin = 0 * self.radius if self.p == math.inf else self.radius**self.p
        excess = torch.relu(self.forward(z) - margin).mean()
        return excess / self.nu + self.radius_weight * self.radius

    def facts(self) -> dict[str, Tensor]:
        """The radius r."""
        return {"radius": self.radius.detach()}

    def forward(self, z: Tensor) -> Tensor:
        """The distance ``[B, H, W]`` to the target, squared in the semantic form.

        Raises:
            RuntimeError: there is no target before `build`.
        """
        self._check_fitted()
        # The target of a closed form is zero; subtracting it would only copy a large z.
        difference = z if self.one_pass else z - self.target[:, None, None]
        if self.squared:
            return difference.square().sum(dim=1)
        distance: Tensor = torch.linalg.vector_norm(difference, dim=1)
        return distance
