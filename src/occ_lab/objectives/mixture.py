"""A mixture: one objective for each group of similar training images."""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn

from occ_lab.features.levels import join, pieces
from occ_lab.objectives.base import Objective, observe_valid
from occ_lab.objectives.groups import groups
from occ_lab.objectives.joined import JoinedObjective
from occ_lab.projectors import Projector
from occ_lab.utils.errors import InputError, check_number
from occ_lab.utils.processes import all_reduced, of_first_process

MEASURED = 4  # images of each component, in each process, whose scores set the scale of its scores

log = logging.getLogger(__name__)


class Mixture(JoinedObjective):
    """A component for each group of similar images, and each image is scored by its own component.

    It serves training sets of several kinds of images, such as all categories of a benchmark in one
    model, or the variants of a product. The groups are found without labels: a first pass computes
    the mean feature of every image, and `groups` divides these by k-means. In a second pass, every
    component learns from the images of its group alone. An image belongs to the group whose mean is
    nearest to its own mean feature.

    The scores of a component are divided by the root of their mean square over a few of its
    training images, so that those of different components can be compared. Each component has the
    size of a model of its own. A tile of an image is treated like an image.

    Args:
        component: an objective that learns in one pass, of which each component is a copy.
        components: the number of groups, at least 1, or ``auto``, see `groups`.
        most: the largest number of groups with ``auto``, at least 1.
        seed: the seed of k-means.

    Attributes:
        centres: the mean of each group, ``[K, C]``; empty before `finish`.
        scales: what the scores of each component are divided by, ``[K]``; empty before `finish`.
        members: the components; none before `setup`.
        projectors: the projector of each.

    Raises:
        ValueError: an argument is out of range, or the component does not learn in one pass.

    Example:
        >>> from occ_lab.objectives import Gaussian
        >>> levels = [torch.randn(12, 3, 8, 8), torch.randn(12, 5, 4, 4)]
        >>> levels[0][6:] += 9  # six images of another kind
        >>> objective = Mixture(Gaussian())
        >>> projector = objective.default_projector([3, 5])
        >>> objective.setup([projector(levels)])
        >>> objective.observe(levels)
        >>> objective.finish(projector)
        >>> len(objective.members), objective(projector(levels)).shape
        (2, torch.Size([12, 8, 8]))
    """

    centres: Tensor
    scales: Tensor
    needs_setup = True
    located = True
    learned = ("centres", "scales")
    starts: Tensor  # from `setup` to `finish`: the centres of k-means,
    totals: Tensor  # the sum of the mean features of each group,
    counts: Tensor  # the number of its images,
    measured: list[list[tuple[list[Tensor], Tensor | None]]]  # and some of them

    def __init__(
        self,
        component: Objective,
        components: int | Literal["auto"] = "auto",
        most: int = 32,
        seed: int = 0,
    ) -> None:
        if not component.one_pass or component.needs_setup:
            raise ValueError(
                "component must be an objective that learns in one pass, such as Norm in closed "
                f"form, PaDiM, Gaussian or KNN; {type(component).__name__} does not with these "
                "settings"
            )
        if components != "auto":
            check_number("components", components, at_least=1, integer=True)
        check_number("most", most, at_least=1, integer=True)
        check_number("seed", seed, at_least=0, integer=True)
        super().__init__()
        self.new = partial(copy.deepcopy, component)  # as an attribute, it would be a component too
        self.components = components
        self.most = most
        self.seed = seed
        self.in_order = component.in_order
        self.tiled = False
        self.members = nn.ModuleList()
        self.projectors = nn.ModuleList()
        self.register_buffer("centres", torch.empty(0, 0))
        self.register_buffer("scales", torch.empty(0))

    def see_tiles(self, projector: nn.Module) -> None:
        """Prepare every component for maps of tiles."""
        self.tiled = True

    def setup(self, feature_maps: Iterable[Tensor]) -> None:
        """Find the groups, from the maps ``[B, C, H, W]`` of all training images.

        Raises:
            InputError: there are no images, or fewer than ``components``.
        """
        found = [z.mean(dim=(2, 3)).cpu().float() for z in feature_maps]
        if not found:
            raise InputError("the training set has no images", part="dataset")
        means = torch.cat(found)
        rows = groups(means.double().numpy(), self.components, self.most, self.seed)
        # Other processes may round differently.
        self.starts = of_first_process(torch.stack([means[group].mean(dim=0) for group in rows]))
        self._make(*self.starts.shape)
        self.totals = torch.zeros(self.starts.shape, dtype=torch.float64)
        self.counts = torch.zeros(len(self.starts), dtype=torch.float64)
        self.measured = [[] for _ in self.members]

    def _make(self, count: int, channels: int) -> None:
        """Make new components for maps of ``channels`` channels."""
        self.members, self.projectors = nn.ModuleList(), nn.ModuleList()
        for _ in range(count):
            member: Objective = self.new()
            projector = member.default_projector([channels])
            member.build(projector.out_channels)
            if self.tiled:
                member.see_tiles(projector)
            self.members.append(member.to(self.centres.device))
            self.projectors.append(projector.to(self.centres.device))

    @torch.no_grad()
    def observe(self, levels: Sequence[Tensor], valid: Tensor | None = None) -> None:
        """Pass each image to the component of its group.

        Args:
            levels: ``[B, C_l, H_l, W_l]``, finest first.
            valid: the positions that count, bool ``[B, H, W]``; None counts all.
        """
        whole = mean_features(levels, None)
        own = whole if valid is None else mean_features(levels, valid)
        of = nearest(own, self.starts)
        # Images are later scored without knowing which positions count.
        self.totals.index_add_(0, of, whole.double())
        for number, member in enumerate(self.members):
            # A component also sees that it has no image: so do all processes if one of them has.
            rows = (of == number).nonzero()[:, 0].to(levels[0].device)
            part = [level[rows] for level in levels]
            counted = None if valid is None else valid[rows]
            assert isinstance(member, Objective)
            observe_valid(member, part, counted)
            left = MEASURED - int(self.counts[number])
            if left > 0 and len(rows):
                few = None if counted is None else counted[:left]
                self.measured[number].append(([level[:left] for level in part], few))
            self.counts[number] += len(rows)

    def finish(self, projector: Projector) -> None:
        """Finish every component, and measure the scale of its scores.

        Raises:
            InputError: the projector is not `Identity`, or as of the component.
        """
        super().finish(projector)
        if not len(self.members):
            raise InputError("the training set has no images", part="dataset")
        totals, counts = all_reduced(self.totals), all_reduced(self.counts)
        # Random crops may leave a group without an image.
        kept = counts.nonzero()[:, 0].tolist()
        self.members = nn.ModuleList(self.members[number] for number in kept)
        self.projectors = nn.ModuleList(self.projectors[number] for number in kept)
        self.centres = (totals[kept] / counts[kept, None]).float().to(self.centres)
        for member, own in zip(self.members, self.projectors, strict=True):
            assert isinstance(member, Objective)
            assert isinstance(own, Projector)
            member.finish(own)
        squares = torch.stack(
            [self._squares(self.measured[number], n) for n, number in enumerate(kept)]
        )
        total, positions = all_reduced(squares).T
        scales = (total / positions).sqrt()
        self.scales = torch.where(scales > 0, scales, 1.0).float().to(self.scales)
        log.info(
            "mixture: components of %s training images",
            ", ".join(f"{int(counts[number])}" for number in kept),
        )
        del self.starts, self.totals, self.counts, self.measured

    @torch.no_grad()
    def _squares(self, images: Sequence[tuple[list[Tensor], Tensor | None]], number: int) -> Tensor:
        """The sum of the squared scores of a component and their number, float64 ``[2]``."""
        found = torch.zeros(2, dtype=torch.float64)
        for levels, valid in images:
            scores = self._scores(join(levels), number)
            chosen = scores.flatten() if valid is None else scores[valid]
            found += torch.tensor([float(chosen.square().sum()), chosen.numel()])
        return found

    def forward(self, z: Tensor) -> Tensor:
        """Scores ``[B, H, W]`` of maps ``[B, C, H, W]``, each by the component of its image.

        Raises:
            RuntimeError: the objective is not fitted.
        """
        self._check_fitted()
        of = self.component_of(z)
        if torch.compiler.is_exporting():  # the graph cannot depend on which components occur
            every = [self._scores(z, n) / self.scales[n] for n in range(len(self.members))]
            mine = of[:, None, None, None].expand(-1, 1, *every[0].shape[1:])
            return torch.stack(every, dim=1).gather(1, mine)[:, 0]
        rows = [(of == number).nonzero()[:, 0] for number in range(len(self.members))]
        scores = [
            self._scores(z[chosen], number) / self.scales[number]
            for number, chosen in enumerate(rows)
            if len(chosen)
        ]
        return torch.cat(scores)[torch.cat(rows).argsort()]

    def component_of(self, z: Tensor) -> Tensor:
        """The index of the component of each image, int64 ``[B]``, of maps ``[B, C, H, W]``."""
        return nearest(z.mean(dim=(2, 3)), self.centres)

    def _scores(self, z: Tensor, number: int) -> Tensor:
        scores: Tensor = self.members[number](self.projectors[number]([z]))
        return scores

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        centres = state_dict.get(f"{prefix}centres")
        if centres is not None and len(centres) != len(self.members):
            self._make(*centres.shape)
        super()._load_from_state_dict(state_dict, prefix, *rest)


def mean_features(levels: Sequence[Tensor], valid: Tensor | None) -> Tensor:
    """The mean of the concatenated levels over the positions of each image, ``[B, ΣC_l]``, CPU.

    Args:
        levels: ``[B, C_l, H_l, W_l]``, finest first.
        valid: the positions that count, bool ``[B, H, W]``; None counts all.
    """
    if valid is None:
        return torch.cat([join(piece).mean(dim=(2, 3)) for piece in pieces(levels)]).float().cpu()
    weights = valid[:, None].to(levels[0])
    found = [
        (join(piece) * mine).sum(dim=(2, 3)) / mine.sum(dim=(2, 3))
        for *piece, mine in pieces([*levels, weights])
    ]
    return torch.cat(found).float().cpu()


def nearest(means: Tensor, centres: Tensor) -> Tensor:
    """The index of the nearest centre, int64 ``[B]``, of vectors ``[B, C]`` among ``[K, C]``."""
    return (means.to(centres.dtype)[:, None] - centres).square().sum(dim=2).argmin(dim=1)
