"""The norm objective in closed form, updated image by image."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from occ_lab.backbones.base import FrozenBackbone
from occ_lab.detector import Detector
from occ_lab.features.regions import contents
from occ_lab.objectives.norm.local_moments import LocalMoments
from occ_lab.objectives.norm.moments import HalvedMoments, Moments
from occ_lab.objectives.norm.objective import Norm
from occ_lab.projectors import Conv1x1, LocalProjector
from occ_lab.utils.errors import InputError, check_number

# Levels [B, C_l, H_l, W_l], and which positions are of the image, bool [B, H, W], or None for all.
Parts: TypeAlias = Iterable[tuple[Sequence[Tensor], Tensor | None]]


@dataclass(frozen=True)
class Summed:
    """The moments of some images.

    Attributes:
        moments: the sums.
        images: how many images they are of; those in tiles count once.
    """

    moments: Moments | LocalMoments
    images: int


@dataclass(frozen=True)
class OnlineState:
    """Everything that an `Online` has learned.

    Attributes:
        tensors: the moments of both halves (``even``, ``odd``), the positions kept to choose t
            (``held_out``), all float64, and the weight and bias of the projector (``projector``,
            ``bias``); for a local form, the sums of `LocalMoments` (``local.NAME``) and the buffers
            of the projector (``projector.NAME``).
        facts: numbers that JSON can represent without loss.
    """

    tensors: dict[str, Tensor]
    facts: dict[str, Any]


class Online:
    """Updates a detector's second moments with each image, and solves for its projector again.

    If t is a number, the result equals the batch fit of the same images up to rounding. With
    ``time=auto``, t is chosen again whenever the number of images has doubled.

    Args:
        detector: has the norm objective with ``solver="closed_form"``.
        half_life: the number of further images after which the weight of an image has halved, above
            0; None forgets nothing.
        refresh: the projector is solved for again when this fraction of all images is new since the
            last solution, in 0..1; 0 solves after every image.

    Attributes:
        weight: the total weight of what was learned, in images; without forgetting, the number of
            images.
        fresh: the part of it that is new since the last solution.

    Raises:
        InputError: the detector has another objective or projector.
        ValueError: a number is out of range; the message begins with its name.

    Example:
        >>> from occ_lab.backbones import TimmBackbone
        >>> backbone = TimmBackbone("resnet10t", weights="random")
        >>> online = Online(Detector(backbone, Norm(solver="closed_form", time=10)))
        >>> for image in torch.rand(3, 1, 3, 64, 64):
        ...     online.learn(backbone(image))
        >>> online.images, online.due
        (3, True)
        >>> online.solve()
        >>> online.due
        False
    """

    def __init__(
        self, detector: Detector, half_life: float | None = None, refresh: float = 0.0
    ) -> None:
        if not (isinstance(detector.objective, Norm) and detector.objective.one_pass):
            raise InputError(
                "only the norm-space objective with solver=closed_form can be updated image by "
                f"image, not {type(detector.objective).__name__}",
                part="objective",
            )
        suited = Conv1x1 if detector.objective.local is None else LocalProjector
        if not isinstance(detector.projector, suited):
            raise InputError(
                f"must be {suited.__name__}, whose weights the closed form sets, not "
                f"{type(detector.projector).__name__}",
                part="projector",
            )
        check_rates(half_life, refresh)
        self.objective = detector.objective
        self.projector: Conv1x1 | LocalProjector = detector.projector
        self.keep = 1.0 if half_life is None else 0.5 ** (1 / half_life)
        self.refresh = refresh
        # A detector that was fitted in this program has already learned from images.
        self.weight = float(self.images)
        self.fresh = 0.0
        self.chosen_at = self.images  # the number of images when t was last chosen

    @property
    def images(self) -> int:
        """The number of images that were learned from."""
        return self.objective.images

    @property
    def due(self) -> bool:
        """Whether the projector must be solved for again before it is used."""
        return self.fresh > 0 and self.fresh >= self.refresh * self.weight

    @torch.no_grad()
    def learn(self, levels: Sequence[Tensor], valid: Tensor | None = None) -> None:
        """Add an image; see `due`.

        Args:
            levels: ``[1, C_l, H_l, W_l]``, finest first.
            valid: the positions that belong to the image, bool ``[1, H, W]``; None if all do.
        """
        self.learn_parts([(levels, valid)])

    @torch.no_grad()
    def learn_parts(self, parts: Parts) -> None:
        """Add an image in tiles, a few tiles at a time.

        Args:
            parts: levels ``[B, C_l, H_l, W_l]``, and the positions that belong to the image, bool
                ``[B, H, W]``, or None if all do.
        """
        if self.keep < 1:
            for moments in self._moments:
                moments.scale(self.keep)
        for levels, valid in parts:
            self.objective.observe(levels, valid)
        self.weight = self.keep * self.weight + 1
        self.fresh += 1

    @torch.no_grad()
    def summed(self, images: Iterable[Parts]) -> Summed:
        """The moments of some images alone, which `add` adds or removes.

        Args:
            images: the parts of each, as of `learn_parts`.
        """
        local, whole = self.objective.local, self.objective.moments.even
        device = whole.total.device if local is None else local.sums.device
        own: Moments | LocalMoments = (
            Moments(whole.normalize)
            if local is None
            else LocalMoments(local.cell, local.normalize, local.memory_mb)
        ).to(device)
        count = 0
        for parts in images:
            count += 1
            for levels, valid in parts:
                if isinstance(own, LocalMoments):
                    own.update(levels, valid)
                elif valid is None:
                    own.update(levels)
                else:
                    for part in contents(levels, valid):
                        own.update([part])
        return Summed(own, count)

    @torch.no_grad()
    def add(self, summed: Summed, factor: int) -> None:
        """Add the moments of some images, or remove them: then it is as if they had never been.

        What is subtracted is what was added, so that only rounding is left: that of float64 if the
        images were learned one by one, and of float32 if they were learned in batches.

        Args:
            summed: what `summed` has returned.
            factor: 1 adds, −1 removes.

        Raises:
            InputError: a time was chosen from the positions of all images, or nothing is left.
        """
        if self.objective.flow_time:
            raise InputError(
                "time=auto was chosen with the positions of all images, which cannot be forgotten; "
                "use time=integrated or a number",
                part="objective",
            )
        change = factor * summed.images
        if self.images + change < 1:
            raise InputError("no image would be left to learn from")
        whole, local = self.objective.moments, self.objective.local
        if isinstance(summed.moments, Moments):
            whole.even.total += factor * summed.moments.total
            whole.seen += change
        else:
            assert local is not None
            local.add(summed.moments.state(), factor)
            local.seen += change
        self.weight += change
        self.fresh += abs(change)

    def solve(self) -> None:
        """Set the projector to the solution for everything that was learned."""
        if self.images >= 2 * self.chosen_at:
            self.objective.choose_time(self.projector)
            self.chosen_at = self.images
        self.objective.solve(self.projector)
        self.fresh = 0.0

    def state(self) -> OnlineState:
        """Everything that was learned, for `restore` and `merge`."""
        objective = self.objective
        chooser = objective.flow_time
        channels = sum(self.projector.channels)
        held_out = chooser.held_out if chooser else np.zeros((0, channels))
        tensors = {
            "even": objective.moments.even.total,
            "odd": objective.moments.odd.total,
            "held_out": torch.from_numpy(held_out),
            **self._solution(),
        }
        if objective.local is not None:
            local = objective.local.state()
            tensors.update({f"local.{name}": value for name, value in local.items()})
        facts = {
            "seen": self.images,
            "weight": self.weight,
            "fresh": self.fresh,
            "chosen_at": self.chosen_at,
            "time": objective.time,
            "random": chooser.random.bit_generator.state if chooser else None,
        }
        # Copies, because further images are added in place.
        return OnlineState({name: value.cpu().clone() for name, value in tensors.items()}, facts)

    def _solution(self) -> dict[str, Tensor]:
        """The weight and bias of the projector, with their names in a state."""
        if isinstance(self.projector, LocalProjector):
            solved = self.projector.state_dict()
            return {f"projector.{name}": value for name, value in solved.items()}
        conv = self.projector.conv
        assert conv.bias is not None
        return {"projector": conv.weight.detach(), "bias": conv.bias.detach()}

    @property
    def _moments(self) -> list[HalvedMoments | LocalMoments]:
        """All moments that images are added to."""
        local = self.objective.local
        return [self.objective.moments, *([] if local is None else [local])]

    def restore(self, state: OnlineState) -> None:
        """Take over a state without any loss; nothing may have been learned before."""
        self._add(state)
        self.fresh = state.facts["fresh"]
        self.chosen_at = state.facts["chosen_at"]
        self.objective.time = state.facts["time"]
        if self.objective.flow_time:
            self.objective.flow_time.random.bit_generator.state = state.facts["random"]
        tensors = state.tensors
        if isinstance(self.projector, LocalProjector):
            names = ("weight", "bias", "mean")
            self.projector.assign_cells(*(tensors[f"projector.{name}"] for name in names))
        else:
            factor = torch.cat([tensors["projector"].flatten(1), tensors["bias"][:, None]], 1)
            self.projector.assign(factor)
        self.objective.target = self.objective.target.new_zeros(self.projector.out_channels)

    def forget(self) -> None:
        """Remove everything that was learned; the projector stays until it is solved for again."""
        for moments in self._moments:
            moments.scale(0.0)
            moments.seen = 0
        if self.objective.flow_time:
            self.objective.flow_time.forget()
        self.weight = self.fresh = 0.0
        self.chosen_at = 0

    def merge(self, states: Sequence[OnlineState]) -> None:
        """Add the images of all states; their order does not matter."""
        for state in states:
            self._add(state)
        self.fresh = self.weight

    def _add(self, state: OnlineState) -> None:
        moments = self.objective.moments
        for name, half in zip(("even", "odd"), moments.halves, strict=True):
            half.add(state.tensors[name])
        moments.seen += state.facts["seen"]
        if self.objective.local is not None:
            prefix = "local."
            sums = {
                name.removeprefix(prefix): value
                for name, value in state.tensors.items()
                if name.startswith(prefix)
            }
            self.objective.local.add(sums)
            self.objective.local.seen += state.facts["seen"]
        self.weight += state.facts["weight"]
        if self.objective.flow_time:
            self.objective.flow_time.keep(state.tensors["held_out"].numpy())


def why_frozen(detector: Detector) -> str:
    """The reason why a detector cannot learn from further images; empty if it can.

    Example:
        >>> from occ_lab.backbones import TimmBackbone
        >>> from occ_lab.objectives import KNN
        >>> why_frozen(Detector(TimmBackbone("resnet10t", weights="random"), KNN()))
        'its objective is KNN, not the norm-space objective in closed form'
    """
    objective, backbone = detector.objective, detector.backbone
    if not isinstance(backbone, FrozenBackbone):
        return f"a stream needs a frozen backbone, not {backbone.name}"
    if not (isinstance(objective, Norm) and objective.one_pass):
        return (
            f"its objective is {type(objective).__name__}, not the norm-space objective in closed "
            "form"
        )
    if not objective.images and not objective.target.any():  # solved and loaded from a checkpoint
        return "the moments that it was solved from were not kept; train it with moments=true"
    return ""


def check_rates(half_life: float | None, refresh: float) -> None:
    """Raise a ValueError that begins with the name unless both are in the range of `Online`."""
    if half_life is not None:
        check_number("half_life", half_life, above=0)
    check_number("refresh", refresh, at_least=0, at_most=1)
