"""Common parts of all trainings of stage 1: patches, schedule, decay, random numbers."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from occ_lab.pretraining.representation import Representation
from tests.pretraining.representations import bright_above, encoder, losses, settings


class Told(Representation):
    """Its loss is the mean of the head's output; it keeps its inputs, step by step."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.given: list[Tensor] = []
        self.drawn: list[float] = []
        self.rates: list[float] = []

    def loss(self, image: Tensor) -> tuple[Tensor, int]:
        self.given.append(image.clone())
        self.drawn.append(float(torch.rand(())))
        self.rates.append(self.trainer.optimizers[0].param_groups[0]["lr"])
        return self.encoder(image).float().square().mean(), 7


def test_patches_are_instances_of_their_own() -> None:
    module = Told(**settings(encoder(), patches=3))
    image = bright_above(4, side=12)
    losses(module, image, epochs=1, batch=2)
    assert [each.shape for each in module.given] == [(6, 3, 8, 8)] * 2
    for patch in torch.cat(module.given):
        found = image.unfold(2, 8, 1).unfold(3, 8, 1).permute(0, 2, 3, 1, 4, 5).flatten(0, 2)
        assert (found == patch).flatten(1).all(dim=1).any(), "a window of one of the images"


def test_whole_images_are_given_as_they_are() -> None:
    module = Told(**settings(encoder(), patches=0))
    image = bright_above(4)
    losses(module, image, epochs=1, batch=4)
    (given,) = module.given
    assert {tuple(each.flatten().tolist()) for each in given} == {
        tuple(each.flatten().tolist()) for each in image
    }


def test_what_is_drawn_depends_on_seed_and_epoch_alone() -> None:
    def drawn(seed: int, before: int) -> list[float]:
        module = Told(**settings(encoder(), seed=seed))
        torch.manual_seed(before)
        losses(module, bright_above(2), epochs=3, batch=2)
        return module.drawn

    first, again, other = drawn(0, 5), drawn(0, 6), drawn(1, 5)
    assert first == again
    assert len({*first, *other}) == 6  # every epoch of every seed has its own


def test_the_learning_rate_falls_to_zero_by_a_cosine() -> None:
    module = Told(**settings(encoder()))
    losses(module, bright_above(8), epochs=2, batch=2)
    expected = [0.05 * (1 + math.cos(math.pi * step / 8)) / 2 for step in range(8)]
    assert module.rates == pytest.approx(expected)
    assert module.trainer.optimizers[0].param_groups[0]["lr"] == pytest.approx(0, abs=1e-9)


def test_biases_and_batch_norms_do_not_decay() -> None:
    net = encoder(classes=4)
    module = Told(**settings(net, weight_decay=0.1))
    losses(module, bright_above(2), epochs=1, batch=2)
    decay = {
        id(parameter): group["weight_decay"]
        for group in module.trainer.optimizers[0].param_groups
        for parameter in group["params"]
    }
    assert len(decay) == len(list(net.parameters()))
    for layer in net.modules():
        norm = isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d)
        for name, parameter in layer.named_parameters(recurse=False):
            assert decay[id(parameter)] == (0.0 if norm or name == "bias" else 0.1)


def test_everything_decays_if_all_is_asked_for() -> None:
    net = encoder(classes=4)
    module = Told(**settings(net, weight_decay=0.1, decayed="all"))
    losses(module, bright_above(2), epochs=1, batch=2)
    (group,) = module.trainer.optimizers[0].param_groups
    assert group["weight_decay"] == 0.1
    assert {id(each) for each in group["params"]} == {id(each) for each in net.parameters()}
    with pytest.raises(ValueError, match="^decayed must be weights or all, got 'some'"):
        Told(**settings(net, decayed="some"))


def test_chance_level_is_told_with_the_loss() -> None:
    module = Told(**settings(encoder()))
    (loss,) = losses(module, bright_above(4), epochs=1, batch=4)
    metrics = module.trainer.callback_metrics
    assert float(metrics["chance"]) == pytest.approx(math.log(7))
    assert float(metrics["loss"]) == loss
    assert "step_loss" in metrics


@pytest.mark.parametrize(
    ("name", "value"), [("weight_decay", -1), ("patches", -1), ("patches", 1.5), ("seed", -1)]
)
def test_a_bad_argument_is_named(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"^{name} must be "):
        Told(**settings(encoder(), **{name: value}))
