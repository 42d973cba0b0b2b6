"""Deep SVDD against its formulas, in plain float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from occ_lab.objectives.deep_svdd import DeepSVDD


def objective(boundary: str = "hard", **arguments: object) -> DeepSVDD:
    made = DeepSVDD(boundary, **arguments)  # type: ignore[arg-type]
    made.double().setup([torch.full((2, 3, 4, 4), 0.5, dtype=torch.float64)])
    return made


def squared(z: torch.Tensor, centre: np.ndarray) -> np.ndarray:
    return ((z.numpy() - centre[:, None, None]) ** 2).sum(axis=1)


def test_centre_is_the_mean_output_kept_off_zero() -> None:
    made = DeepSVDD()
    maps = torch.randn(5, 4, 2, 2) + torch.tensor([3.0, 0.0, -2.0, 0.0])[:, None, None]
    maps[:, 1] -= maps[:, 1].mean() - 0.04
    maps[:, 3] -= maps[:, 3].mean() + 0.02
    made.setup(maps.split(2))
    mean = maps.double().mean(dim=(0, 2, 3)).float()
    expected = torch.stack([mean[0], torch.tensor(0.1), mean[2], torch.tensor(-0.1)])
    torch.testing.assert_close(made.centre, expected)


@settings(deadline=None)
@given(st.integers(0, 99), st.floats(0.01, 1), st.floats(0, 3))
def test_loss_and_score_are_the_formulas(seed: int, nu: float, radius: float) -> None:
    z = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(seed)).double()
    d = squared(z, np.full(3, 0.5))
    hard = objective()
    assert float(hard.loss(z)) == pytest.approx(d.mean())
    np.testing.assert_allclose(hard(z), d)
    soft = objective("soft", nu=nu, warmup=5)
    soft.radius = torch.tensor(radius, dtype=torch.float64)
    expected = radius**2 + np.maximum(d - radius**2, 0).mean() / nu
    assert float(soft.loss(z)) == pytest.approx(expected)
    np.testing.assert_allclose(soft(z), d - radius**2)


def test_radius_is_the_quantile_of_the_batch_after_the_warm_up() -> None:
    soft = objective("soft", nu=0.2, warmup=2)
    z = torch.randn(6, 3, 5, 5).double()
    for epoch in (0, 1):
        soft.start_epoch(epoch)
        soft.loss(z)
        assert soft.radius == 0
    soft.start_epoch(2)
    soft.loss(z)
    distances = np.sqrt(squared(z, np.full(3, 0.5)))
    assert float(soft.radius) == pytest.approx(np.quantile(distances, 0.8))
    assert float((soft(z) > 0).double().mean()) == pytest.approx(0.2, abs=0.01)


def test_gradients_are_those_of_the_formula() -> None:
    z = torch.randn(2, 3, 2, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(objective().loss, z)
    soft = objective("soft")
    soft.radius = torch.tensor(0.7, dtype=torch.float64)
    assert torch.autograd.gradcheck(soft.loss, z)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"boundary": "round"}, "^boundary must be hard or soft"),
        ({"nu": 0}, "^nu must be"),
        ({"warmup": -1}, "^warmup must be"),
    ],
)
def test_values_out_of_range_are_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DeepSVDD(**arguments)  # type: ignore[arg-type]
