"""Contrastive learning compared with its formula, in one process and in two."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import settings as limits
from hypothesis import strategies as st
from torch import Tensor, nn

from occ_lab.pretraining.contrastive import Contrastive, contrast
from tests.objectives.processes import in_two_processes
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


def units(count: int, channels: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(count, channels, generator=generator), dim=1)


def by_hand(queries: np.ndarray, keys: np.ndarray, temperature: float) -> float:
    """Equation 2 of Sohn et al. 2021, one query after another."""
    terms = []
    for place, query in enumerate(queries):
        closeness = np.array([query @ key for key in keys]) / temperature
        terms.append(np.log(np.exp(closeness).sum()) - closeness[place])
    return float(np.mean(terms))


@limits(deadline=None, max_examples=30)
@given(
    count=st.integers(1, 9),
    channels=st.integers(1, 6),
    temperature=st.floats(0.05, 2),
    seed=st.integers(0, 1000),
)
def test_contrast_equals_its_formula(
    count: int, channels: int, temperature: float, seed: int
) -> None:
    queries, keys = units(count, channels, seed), units(count, channels, seed + 1)
    loss, candidates = contrast(queries, keys, temperature)
    expected = by_hand(queries.double().numpy(), keys.double().numpy(), temperature)
    assert candidates == count
    assert loss.dtype == torch.float32
    assert float(loss) == pytest.approx(expected, rel=1e-4, abs=1e-5)


def test_chance_is_the_logarithm_of_the_candidates() -> None:
    for count in (16, 256):
        loss, candidates = contrast(units(count, 4096, 0), units(count, 4096, 1), 0.2)
        assert float(loss) == pytest.approx(math.log(candidates), rel=0.02)
    own, _ = contrast(units(64, 4096, 0), units(64, 4096, 0), 0.1)
    assert float(own) < 0.01


def test_the_loss_is_that_of_two_views_by_their_angle() -> None:
    class TwoViews(Still):
        def __init__(self) -> None:
            super().__init__()
            self.calls = 0

        def forward(self, image: Tensor) -> Tensor:
            self.calls += 1
            return image if self.calls % 2 else image.roll(1, dims=-1)

    net = encoder().eval()
    image = bright_above(6)
    loss, candidates = Contrastive(0.3, **settings(net, TwoViews())).loss(image)
    with torch.no_grad():
        first, second = (net(view).double().numpy() for view in (image, image.roll(1, dims=-1)))
    first, second = (view / np.linalg.norm(view, axis=1)[:, None] for view in (first, second))
    assert candidates == 6
    assert loss.item() == pytest.approx(by_hand(first, second, 0.3), rel=1e-4)


@pytest.mark.parametrize(
    ("family", "count", "expected"),
    [("none", None, 1), ("rotations", None, 4), ("geometric", None, 8), ("geometric", 3, 3)],
)
def test_an_image_is_shown_as_one_of_its_instances(
    family: Any, count: int | None, expected: int
) -> None:
    seen = Seen(lambda image: image.flatten(1))
    image = bright_above(1).expand(64, -1, -1, -1)
    torch.manual_seed(0)
    Contrastive(family=family, count=count, **settings(seen)).loss(image)
    (views,) = seen.shown
    first, second = views.chunk(2)
    assert torch.equal(first, second), "both views are of the same instance"
    assert len(torch.unique(first.flatten(1), dim=0)) == expected
    if family == "none":
        assert torch.equal(first, image)


@pytest.mark.parametrize("family", ["none", "rotations"])
def test_a_gradient_reaches_every_parameter(family: Any) -> None:
    net = encoder()
    for layer in net.net.modules():  # the last batch-norm of a new block lets nothing through
        if hasattr(layer, "bn2"):
            nn.init.ones_(layer.bn2.weight)
    module = Contrastive(family=family, **settings(net, some_augmentation()))
    check_gradients(module, bright_above(8), net)


def test_it_learns() -> None:
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(16, 3, 2, 2, generator=generator).repeat_interleave(4, 2)
    module = Contrastive(0.1, **settings(encoder(), some_augmentation()))
    found = losses(module, image.repeat_interleave(4, 3), epochs=12, batch=16)
    assert found[0] > 0.6 * math.log(16)
    assert found[-1] < 0.6 * found[0]


def test_bad_arguments_are_named() -> None:
    flipping = some_augmentation()
    for arguments, message in (
        ({"temperature": 0}, "temperature must be a number and > 0"),
        ({"family": "hflip"}, r"augment\.flip must be 0 with family="),
        ({"family": "turns"}, "family must be one of"),
        ({"count": 2}, "count must be None"),
    ):
        with pytest.raises(ValueError, match=f"^{message}"):
            Contrastive(**settings(encoder(), flipping), **arguments)  # type: ignore[arg-type]


# Several processes


def network() -> nn.Sequential:
    torch.manual_seed(3)
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 12), nn.Tanh(), nn.Linear(12, 5))


def loss_and_gradient(image: Tensor) -> dict[str, Any]:
    """The result of a process for its part; its views are the image and its mirror image."""

    class Mirrored(Still):
        calls = 0

        def forward(self, image: Tensor) -> Tensor:
            self.calls += 1
            return image if self.calls % 2 else image.flip(-1)

    net = network()
    loss, candidates = Contrastive(0.2, **settings(net, Mirrored())).loss(image)
    loss.backward()
    gradient = [parameter.grad for parameter in net.parameters()]
    return {"loss": loss.item(), "candidates": candidates, "gradient": gradient}


def batch() -> Tensor:
    return torch.rand(8, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def tell(folder: Path, rank: int) -> None:
    torch.save(loss_and_gradient(batch().chunk(2)[rank]), folder / f"{rank}.pt")


def test_two_processes_have_the_loss_and_gradient_of_the_joint_batch(tmp_path: Path) -> None:
    in_two_processes(partial(tell, tmp_path), tmp_path)
    one = loss_and_gradient(batch())
    two = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2)]
    assert [told["candidates"] for told in two] == [8, 8] == [one["candidates"]] * 2
    assert two[0]["loss"] != two[1]["loss"]
    assert np.mean([told["loss"] for told in two]) == pytest.approx(one["loss"], rel=1e-5)
    for joint, *shares in zip(one["gradient"], two[0]["gradient"], two[1]["gradient"], strict=True):
        scale = float(joint.abs().max())
        torch.testing.assert_close(sum(shares) / 2, joint, rtol=1e-4, atol=1e-5 * scale)
        assert not torch.allclose(shares[0], joint, rtol=0.05)
