"""Rotation prediction against its formula, and that it learns."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from occ_lab.pretraining.rotation import Rotation
from tests.pretraining.representations import (
    Seen,
    Still,
    bright_above,
    check_gradients,
    encoder,
    losses,
    settings,
    some_augmentation,
)


def marked(row: int, column: int, count: int = 3) -> Tensor:
    image = torch.zeros(count, 3, 8, 8)
    image[:, :, row, column] = 1
    return image


def where_the_mark_is(image: Tensor) -> Tensor:
    """Logits of a classifier that knows where a mark of the upper left corner goes."""
    corners = [image[:, 0, row, column] for row, column in ((0, 0), (-1, 0), (-1, -1), (0, -1))]
    return 30 * torch.stack(corners, dim=1)


def test_labels_are_the_turns() -> None:
    knows = Rotation(**settings(Seen(where_the_mark_is, classes=4)))
    loss, answers = knows.loss(marked(0, 0))
    assert answers == 4
    assert float(loss) < 1e-9
    misled, _ = knows.loss(marked(0, 7))  # every answer is one turn off
    assert float(misled) == pytest.approx(30)


def test_loss_equals_its_formula() -> None:
    net = encoder(classes=4).eval()
    image = bright_above(5)
    total = 0.0
    for turns in range(4):
        turned = torch.from_numpy(np.rot90(image.numpy(), turns, axes=(2, 3)).copy())
        logits = net.classify(turned).detach().double()
        total += float((logits.exp().sum(1).log() - logits[:, turns]).sum())
    loss, _ = Rotation(**settings(net)).loss(image)
    assert loss.item() == pytest.approx(total / 20, rel=1e-5)


def test_every_turn_has_an_augmentation_of_its_own() -> None:
    class Numbered(Still):
        calls = 0

        def forward(self, image: Tensor) -> Tensor:
            self.calls += 1
            return torch.full_like(image, self.calls)

    seen = Seen(where_the_mark_is, classes=4)
    Rotation(**settings(seen, Numbered())).loss(marked(0, 0))
    (shown,) = seen.shown
    assert shown[:, 0, 0, 0].tolist() == [1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4]


def test_a_gradient_reaches_every_parameter() -> None:
    net = encoder(classes=4)
    module = Rotation(**settings(net, some_augmentation()))
    for layer in net.net.modules():  # the last batch-norm of a new block lets nothing through
        if hasattr(layer, "bn2"):
            torch.nn.init.ones_(layer.bn2.weight)
    check_gradients(module, bright_above(6), net)


def test_it_learns() -> None:
    module = Rotation(**settings(encoder(classes=4), some_augmentation()))
    found = losses(module, bright_above(16), epochs=18)
    assert found[0] > 0.5 * math.log(4)
    assert found[-1] < 0.5 * found[0]


def test_it_wants_four_classes() -> None:
    for classes in (0, 3):
        with pytest.raises(ValueError, match=r"^encoder\.classes must be 4"):
            Rotation(**settings(encoder(classes=classes)))
