"""The norm objective in closed form, learning image by image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from occ_lab.detector import Detector
from occ_lab.objectives.norm.objective import Norm
from occ_lab.projectors import Conv1x1
from occ_lab.utils.errors import InputError, check_number


@dataclass(frozen=True)
class OnlineState:
    """All that an `Online` has become by what it has learned from.

    Attributes:
        tensors: the moments of both halves (``even``, ``odd``), the positions kept to choose t
            (``held_out``), all float64, and weight and bias of the projector (``projector``,
            ``bias``).
        facts: numbers that go into JSON without loss.
    """

    tensors: dict[str, Tensor]
    facts: dict[str, Any]


class Online:
    """Updates a detector's second moments with each image and solves for its projector anew.

    What it has learned equals the batch fit of the same images, but for rounding, where t is a
    number. With ``time=auto`` t is chosen again whenever the number of images has doubled.

    Args:
        detector: of the norm objective with ``solver="closed_form"``.
        half_life: after so many further images, what was learned from one counts half; None
            forgets nothing.
        refresh: the projector is solved for anew once the images it does not know yet are this
            share of all; 0 is after every image.

    Attributes:
        weight: of what was learned, in images: without forgetting, their number.
        fresh: the part of it that the projector does not know yet.

    Raises:
        InputError: another objective.
        ValueError: a number out of range; the message begins with its name.
    """

    def __init__(
        self, detector: Detector, half_life: float | None = None, refresh: float = 0.0
    ) -> None:
        if not (isinstance(detector.objective, Norm) and detector.objective.one_pass):
            raise InputError(
                "loss: only the closed form learns image by image; take loss=norm "
                "loss.solver=closed_form"
            )
        if not isinstance(detector.projector, Conv1x1):
            raise InputError("projector: the closed form sets its weights; take projector=conv1x1")
        if half_life is not None:
            check_number("half_life", half_life, above=0)
        check_number("refresh", refresh, at_least=0, at_most=1)
        self.objective = detector.objective
        self.projector = detector.projector
        self.keep = 1.0 if half_life is None else 0.5 ** (1 / half_life)
        self.refresh = refresh
        self.weight = 0.0
        self.fresh = 0.0
        self.chosen_at = 0  # images, when t was last chosen

    @property
    def images(self) -> int:
        """How many images were learned from."""
        return self.objective.moments.seen

    @property
    def due(self) -> bool:
        """Whether the projector is to be solved for anew before it is used again."""
        return self.fresh > 0 and self.fresh >= self.refresh * self.weight

    @torch.no_grad()
    def learn(self, levels: Sequence[Tensor]) -> None:
        """Add an image, levels ``[1, C_l, H_l, W_l]``; see `due`."""
        if self.keep < 1:
            self.objective.moments.scale(self.keep)
        self.objective.observe(levels)
        self.weight = self.keep * self.weight + 1
        self.fresh += 1

    def solve(self) -> None:
        """Set the projector to what follows from all that was learned."""
        if self.images >= 2 * self.chosen_at:
            self.objective.choose_time(self.projector)
            self.chosen_at = self.images
        self.objective.solve(self.projector)
        self.fresh = 0.0

    def state(self) -> OnlineState:
        """What `restore` and `merge` take."""
        objective, conv = self.objective, self.projector.conv
        assert conv.bias is not None
        chooser = objective.flow_time
        held_out = chooser.held_out if chooser else np.zeros((0, conv.in_channels))
        tensors = {
            "even": objective.moments.even.total,
            "odd": objective.moments.odd.total,
            "held_out": torch.from_numpy(held_out),
            "projector": conv.weight.detach(),
            "bias": conv.bias.detach(),
        }
        facts = {
            "seen": self.images,
            "weight": self.weight,
            "fresh": self.fresh,
            "chosen_at": self.chosen_at,
            "time": objective.time,
            "random": chooser.random.bit_generator.state if chooser else None,
        }
        return OnlineState({name: value.cpu() for name, value in tensors.items()}, facts)

    def restore(self, state: OnlineState) -> None:
        """Become what the state was taken of, to the last bit."""
        self._add(state)
        self.fresh = state.facts["fresh"]
        self.chosen_at = state.facts["chosen_at"]
        self.objective.time = state.facts["time"]
        if self.objective.flow_time:
            self.objective.flow_time.random.bit_generator.state = state.facts["random"]
        factor = torch.cat(
            [state.tensors["projector"].flatten(1), state.tensors["bias"][:, None]], 1
        )
        self.projector.assign(factor)
        self.objective.target = self.objective.target.new_zeros(len(factor))

    def merge(self, states: Sequence[OnlineState]) -> None:
        """Become what has learned from the images of all states, in whatever order."""
        for state in states:
            self._add(state)
        self.fresh = self.weight

    def _add(self, state: OnlineState) -> None:
        moments = self.objective.moments
        for name, half in zip(("even", "odd"), moments.halves, strict=True):
            half.add(state.tensors[name])
        moments.seen += state.facts["seen"]
        self.weight += state.facts["weight"]
        if self.objective.flow_time:
            self.objective.flow_time.keep(state.tensors["held_out"].numpy())
