"""The norm objective against the official implementation and against its formulas."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from occ_lab.objectives.norm.objective import Norm
from occ_lab.projectors import Conv1x1


@pytest.fixture(scope="module")
def official(shared_data: Path) -> dict[str, torch.Tensor]:
    with np.load(shared_data / "reference" / "noco_official.npz") as archive:
        return {name: torch.from_numpy(np.asarray(archive[name])) for name in archive}


def close(ours: torch.Tensor, theirs: torch.Tensor) -> None:
    torch.testing.assert_close(ours.detach().double(), theirs.double(), rtol=1e-4, atol=1e-5)


def check_official(official: dict, prefix: str, features: torch.Tensor, objective: Norm) -> None:
    projector = Conv1x1([24])
    state = {"conv.weight": official[prefix + "weight"], "conv.bias": official[prefix + "bias"]}
    projector.load_state_dict(state)
    objective.target = official[prefix + "target"][0]
    z = projector([features])
    loss = objective.loss(z)
    loss.backward()
    close(loss, official[prefix + "loss"])
    close(objective(z), official[prefix + "score"].reshape(objective(z).shape))
    assert projector.conv.weight.grad is not None
    assert objective.radius.grad is not None
    close(projector.conv.weight.grad, official[prefix + "grad_weight"])
    close(objective.radius.grad, official[prefix + "grad_r"])


@pytest.mark.parametrize("target", ["randn", "rand", "ones"])
@pytest.mark.parametrize("norm", [1, 4])
def test_structured_form_equals_the_official_one(official: dict, target: str, norm: int) -> None:
    prefix = f"structured_{target}_norm{norm}_"
    objective = Norm(24, "gradient", norm=norm, target=target, radius=0.3)
    close(objective.target.norm(), torch.linalg.vector_norm(official[prefix + "target"]))
    if target == "ones":
        close(objective.target, official[prefix + "target"][0])
    check_official(official, prefix, official["structured_features"], objective)


def test_semantic_form_equals_the_official_one(official: dict) -> None:
    objective = Norm(24, "gradient", squared=True, nu=1, radius=0.3, radius_weight=1e3)
    check_official(official, "semantic_", official["semantic_features"], objective)


@settings(deadline=None)
@given(
    p=st.one_of(st.floats(1, 8), st.just(math.inf)),
    norm=st.floats(0.01, 100),
    target=st.sampled_from(["randn", "rand", "ones"]),
    seed=st.integers(0, 99),
)
def test_target_has_the_norm_asked_for(p: float, norm: float, target: str, seed: int) -> None:
    c = Norm(16, "gradient", norm=norm, p=p, target=target, seed=seed).target.double().numpy()
    length = np.abs(c).max() if math.isinf(p) else (np.abs(c) ** p).sum() ** (1 / p)
    assert length == pytest.approx(norm, rel=1e-4)


def test_mean_target_points_to_the_mean_training_feature() -> None:
    torch.manual_seed(0)
    batches = [torch.randn(4, 6, 3, 3) + 1, torch.randn(2, 6, 3, 3) + 1]
    objective = Norm(6, "gradient", norm=2.0, target="mean")
    assert objective.needs_setup
    objective.setup(batches)
    mean = torch.cat([z.permute(0, 2, 3, 1).reshape(-1, 6) for z in batches]).double().mean(0)
    torch.testing.assert_close(objective.target.double(), 2 * mean / mean.norm())


@settings(deadline=None, max_examples=30)
@given(
    p=st.floats(1, 4),
    nu=st.floats(1e-3, 1),
    radius=st.floats(0.01, 3),
    squared=st.booleans(),
    weight=st.floats(0, 1e3),
    seed=st.integers(0, 99),
)
def test_loss_and_score_follow_the_formula(
    p: float, nu: float, radius: float, squared: bool, weight: float, seed: int
) -> None:
    shape = {"p": p, "nu": nu, "radius": radius, "squared": squared, "radius_weight": weight}
    objective = Norm(5, "gradient", seed=seed, **shape).double()
    z = torch.from_numpy(np.random.default_rng(seed).normal(size=(2, 5, 3, 4)))
    c, r = objective.target.numpy(), objective.radius.item()
    total, scores = 0.0, np.empty((2, 3, 4))
    for b, i, j in np.ndindex(2, 3, 4):
        distance = math.sqrt(sum((z[b, k, i, j].item() - c[k]) ** 2 for k in range(5)))
        scores[b, i, j] = distance**2 if squared else distance
        total += max(scores[b, i, j] - r**p, 0)
    assert objective.loss(z).item() == pytest.approx(total / 24 / nu + weight * r, rel=1e-6)
    np.testing.assert_allclose(objective(z).detach().numpy(), scores, rtol=1e-6)


def test_infinite_p_gives_finite_gradients() -> None:
    objective = Norm(4, "gradient", p=math.inf)
    z = torch.randn(2, 4, 2, 2, requires_grad=True)
    objective.loss(z).backward()
    assert z.grad is not None
    assert torch.isfinite(z.grad).all()
    assert objective.radius.grad == 0


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("norm", -1),
        ("norm", "one"),
        ("norm", 1e30),
        ("p", 0.5),
        ("p", "two"),
        ("nu", 0),
        ("radius", -1),
        ("radius_weight", -1),
        ("target", "zeros"),
        ("solver", "magic"),
        ("time", 1e9),
        ("seed", 0.5),
        ("channels", 0),
    ],
)
def test_values_out_of_range_name_the_argument(argument: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"^{argument} must be"):
        Norm(**{argument: value})  # type: ignore[arg-type]


@pytest.mark.parametrize("word", ["inf", ".inf"])
def test_infinite_p_may_be_a_word(word: str) -> None:
    written = Norm(16, norm=3.0, p=word).target  # type: ignore[arg-type]
    assert torch.equal(written, Norm(16, norm=3.0, p=math.inf).target)
    assert float(written.abs().max()) == pytest.approx(3.0)


def test_the_closed_form_refuses_a_target_that_it_does_not_use() -> None:
    with pytest.raises(ValueError, match=r"^target must be .* with solver=closed_form"):
        Norm(solver="closed_form", target="mean")


def test_channels_come_from_build_where_the_constructor_has_none() -> None:
    objective = Norm(solver="gradient", seed=3)
    with pytest.raises(RuntimeError, match="target is empty"):
        objective(torch.zeros(1, 8, 2, 2))
    objective.build(8)
    objective.build(8)
    assert torch.equal(objective.target, Norm(8, seed=3).target)
    with pytest.raises(ValueError, match="^channels must be 8"):
        objective.build(9)
    loaded = Norm(solver="gradient")
    loaded.load_state_dict(objective.state_dict())
    with pytest.raises(ValueError, match="^channels must be 8"):
        loaded.build(9)
    loaded.build(8)
    assert torch.equal(loaded.target, objective.target)


def test_target_depends_on_the_seed_alone() -> None:
    torch.manual_seed(1)
    first = Norm(8, seed=3).target
    torch.manual_seed(2)
    assert torch.equal(first, Norm(8, seed=3).target)
    assert not torch.equal(first, Norm(8, seed=4).target)
