"""Forgetting an image equals never having seen it."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from occ_lab.backbones import TimmBackbone
from occ_lab.detector import Detector
from occ_lab.engine.online import Online
from occ_lab.objectives.norm.objective import Norm
from occ_lab.utils.errors import InputError


def online(**settings: Any) -> Online:
    backbone = TimmBackbone("test_resnet", weights="random")
    return Online(Detector(backbone, Norm(solver="closed_form", **settings)))


def levels(seed: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    sizes = [(32, 16), (48, 8), (192, 4)]
    return [torch.randn(1, c, side, side, generator=generator) for c, side in sizes]


def moments(learner: Online) -> dict[str, torch.Tensor]:
    tensors = learner.state().tensors
    sums = {name: value for name, value in tensors.items() if name.startswith("local.")}
    return sums or {"total": tensors["even"] + tensors["odd"]}


def valid(seed: int) -> torch.Tensor | None:
    there = torch.ones(1, 16, 16, dtype=torch.bool)
    there[:, 12 + seed % 4 :] = False
    return there


@pytest.mark.parametrize("parts", [False, True], ids=["whole", "padded"])
@pytest.mark.parametrize(
    "settings",
    [{"time": "integrated"}, {"time": 10, "cell": None, "bias": "flow"}],
    ids=["local", "one projector"],
)
def test_it_is_as_if_it_had_never_been_there(settings: dict[str, Any], parts: bool) -> None:
    forgot, never = online(**settings), online(**settings)
    for seed in range(6):
        own = valid(seed) if parts else None
        forgot.learn(levels(seed), own)
        if seed not in (1, 4):
            never.learn(levels(seed), own)
    images = ([(levels(seed), valid(seed) if parts else None)] for seed in (1, 4))
    forgot.add(forgot.summed(images), -1)
    assert (forgot.images, forgot.weight) == (never.images, never.weight) == (4, 4.0)
    found, expected = moments(forgot), moments(never)
    for name, value in expected.items():
        scale = float(value.double().abs().max()) or 1.0
        assert float((found[name] - value).double().abs().max()) <= 1e-12 * scale, name
    forgot.solve()
    never.solve()
    z = [online.projector(levels(9)) for online in (forgot, never)]
    scores = [each.objective(value) for each, value in zip((forgot, never), z, strict=True)]
    assert torch.allclose(*scores, rtol=1e-4, atol=1e-6)


def test_what_was_removed_can_be_added_again() -> None:
    learner = online()
    for seed in range(4):
        learner.learn(levels(seed))
    before = moments(learner)
    own = learner.summed([[(levels(seed), None)] for seed in (0, 2)])
    learner.add(own, -1)
    learner.add(own, 1)
    for name, value in moments(learner).items():
        assert torch.allclose(value.double(), before[name].double(), rtol=1e-12, atol=1e-12)


def test_a_chosen_time_and_the_last_image_cannot_be_forgotten() -> None:
    learner = online(time="auto", cell=None, bias="flow")
    learner.learn(levels(0))
    with pytest.raises(InputError, match="time=auto was chosen with the positions"):
        learner.add(learner.summed([[(levels(0), None)]]), -1)
    learner = online()
    learner.learn(levels(0))
    with pytest.raises(InputError, match="no image would be left"):
        learner.add(learner.summed([[(levels(0), None)]]), -1)
