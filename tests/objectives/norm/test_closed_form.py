"""The closed form compared with gradient descent, with random draws, and with itself in parts."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import expm

from occ_lab.features.levels import join
from occ_lab.objectives.norm.closed_form import expected_factor, initial_moment, spectrum
from occ_lab.objectives.norm.moments import HalvedMoments, Moments
from occ_lab.objectives.norm.objective import Norm
from occ_lab.projectors import Conv1x1
from occ_lab.utils.errors import InputError


def toy_levels(seed: int, batch: int = 6) -> list[torch.Tensor]:
    """Correlated features on three grids, in double precision."""
    generator = torch.Generator().manual_seed(seed)
    mix = torch.randn(9, 9, generator=generator, dtype=torch.float64)
    grids = ((3, 8), (2, 4), (4, 2))
    source = [
        torch.randn(batch, 9, side, side, generator=generator, dtype=torch.float64)
        for _, side in grids
    ]
    mixed = [torch.einsum("dc,bchw->bdhw", mix, level) + 0.5 for level in source]
    return [level[:, :count] for level, (count, _) in zip(mixed, grids, strict=True)]


CHANNELS = [3, 2, 4]


def positions(levels: list[torch.Tensor]) -> np.ndarray:
    """The joined, extended features f̃, float64 ``[N, C + 1]``."""
    f = join(levels).permute(0, 2, 3, 1).reshape(-1, sum(CHANNELS))
    return np.concatenate([f.numpy(), np.ones((len(f), 1))], axis=1)


def moments(levels: list[torch.Tensor], normalize: bool = False) -> Moments:
    result = Moments(normalize)
    result.update(levels)
    return result


@settings(deadline=None, max_examples=20)
@given(
    st.lists(st.integers(1, 5), min_size=1, max_size=3),
    st.integers(1, 9),
    st.integers(0, 99),
    st.booleans(),
)
def test_moments_equal_those_of_the_joined_features(
    channels: list[int], side: int, seed: int, normalize: bool
) -> None:
    torch.manual_seed(seed)
    sides = [max(1, side // 2**place) for place in range(len(channels))]
    levels = [
        torch.randn(2, c, s, s, dtype=torch.float64) for c, s in zip(channels, sides, strict=True)
    ]
    f = join(levels).permute(0, 2, 3, 1).reshape(-1, sum(channels)).numpy()
    if normalize:
        f = f * np.sqrt(sum(channels)) / np.linalg.norm(f, axis=1, keepdims=True)
    f = np.concatenate([f, np.ones((len(f), 1))], axis=1)
    ours = Moments(normalize)
    ours.update(levels)
    np.testing.assert_allclose(ours.mean.numpy(), f.T @ f / len(f), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("normalize", [False, True])
def test_two_halves_add_up_to_the_whole(normalize: bool) -> None:
    levels = toy_levels(0)
    first, second = (
        moments([x[:2] for x in levels], normalize),
        moments([x[2:] for x in levels], normalize),
    )
    whole = moments(levels, normalize)
    torch.testing.assert_close(first.total + second.total, whole.total, rtol=1e-12, atol=1e-9)


@pytest.mark.parametrize("norm", [0.5, 1.0, 8.0])
def test_gradient_descent_reaches_the_closed_form(norm: float) -> None:
    """From one draw of the weights, by small steps on the plain mean squared distance."""
    f = torch.from_numpy(positions(toy_levels(1))[:64])
    sigma = f.T @ f / len(f)
    generator = torch.Generator().manual_seed(0)
    target = torch.randn(9, generator=generator, dtype=torch.float64)
    target *= norm / target.norm()
    delta0 = torch.rand(9, 10, generator=generator, dtype=torch.float64) * 2 / 3 - 1 / 3
    weights = delta0.clone().requires_grad_()  # [W, b]
    time = 1.0
    scale = sigma.diagonal().mean()
    steps = 8_000
    step = float(time / (2 * scale)) / steps
    for _ in range(steps):
        loss = ((f @ weights.T - target) ** 2).sum(1).mean()
        (gradient,) = torch.autograd.grad(loss, weights)
        with torch.no_grad():
            weights -= step * gradient
    by_descent = (f @ weights.detach().T - target).norm(dim=1)
    delta0[:, -1] -= target
    left = torch.from_numpy(expm(-time * (sigma / scale).numpy()))
    by_flow = (f @ (delta0 @ left).T).norm(dim=1)
    torch.testing.assert_close(by_descent, by_flow, rtol=1e-3, atol=0.0)


def test_expected_score_is_the_mean_over_draws_for_any_target_of_that_norm() -> None:
    f = positions(toy_levels(2))[:50]
    sigma = torch.from_numpy(f.T @ f / len(f))
    channels, norm, time = 9, 2.0, 3.0
    factor = expected_factor(sigma, channels, norm, time).numpy()
    expected = ((f @ factor.T) ** 2).sum(1)
    left = f @ expm(-time * (sigma / sigma.diagonal().mean()).numpy())
    rng = np.random.default_rng(0)
    bound = 1 / np.sqrt(channels)
    for target in (np.ones(channels), rng.normal(size=channels)):
        target = target * norm / np.linalg.norm(target)
        drawn = np.zeros(len(f))
        draws = 4000
        for _ in range(draws):
            delta = rng.uniform(-bound, bound, (channels, channels + 1))
            delta[:, -1] -= target
            drawn += ((left @ delta.T) ** 2).sum(1)
        np.testing.assert_allclose(drawn / draws, expected, rtol=0.05)


def test_initial_moment_is_that_of_torch() -> None:
    conv = torch.nn.Conv2d(400, 300, 1)
    assert conv.bias is not None
    delta = torch.cat([conv.weight[:, :, 0, 0], conv.bias[:, None]], dim=1).detach().double()
    assert delta.square().sum().item() == pytest.approx(401 * initial_moment(400, 300), rel=0.02)


def test_score_falls_along_the_flow_fastest_where_variance_is_largest() -> None:
    sigma = torch.diag(torch.tensor([4.0, 1.0, 0.1, 1.0], dtype=torch.float64))
    scores = []
    for time in (0.0, 0.5, 1.0, 2.0, 4.0):
        factor = expected_factor(sigma, 3, norm=1e-6, time=time)
        scores.append(factor.square().sum(0).sqrt())  # of the unit vectors
    for earlier, later in itertools.pairwise(scores):
        assert (later < earlier).all()
    ratio = (scores[-1] / scores[0])[:3]
    assert ratio[0] < ratio[1] < ratio[2]


def test_norm_in_closed_form_sets_the_projector_to_the_expected_score() -> None:
    levels = toy_levels(3)
    projector = Conv1x1(CHANNELS).double()
    objective = Norm(9, time=5.0, cell=None, bias="flow", norm=2.0)
    assert objective.one_pass
    objective.observe([x[:3] for x in levels])
    objective.observe([x[3:] for x in levels])
    objective.finish(projector)
    f = positions(levels)
    factor = expected_factor(torch.from_numpy(f.T @ f / len(f)), 9, 2.0, 5.0).numpy()
    ours = objective.double()(projector(levels)).flatten().detach().numpy()
    np.testing.assert_allclose(ours, np.linalg.norm(f @ factor.T, axis=1), rtol=1e-4)


@pytest.mark.parametrize("normalize", [False, True])
def test_normalized_projector_takes_feature_vectors_of_length_root_c(normalize: bool) -> None:
    levels = toy_levels(4)
    projector = Conv1x1(CHANNELS, normalize=normalize).double()
    f = positions(levels)[:, :-1]
    if normalize:
        f = f * 3 / np.linalg.norm(f, axis=1, keepdims=True)
    weight = projector.conv.weight[:, :, 0, 0].detach().numpy()
    assert projector.conv.bias is not None
    plain = f @ weight.T + projector.conv.bias.detach().numpy()
    ours = projector(levels).permute(0, 2, 3, 1).reshape(-1, 9).detach().numpy()
    np.testing.assert_allclose(ours, plain, rtol=1e-9, atol=1e-12)


def test_zero_features_are_scored_too() -> None:
    projector = Conv1x1([3], normalize=True)
    assert torch.isfinite(projector([torch.zeros(1, 3, 2, 2)])).all()


def test_halves_add_up_to_the_moments_of_all() -> None:
    levels = toy_levels(3)
    halved = HalvedMoments(normalize=False)
    for start in range(0, len(levels[0]), 3):
        halved.update([level[start : start + 3] for level in levels])
    torch.testing.assert_close(halved.mean, moments(levels).mean)
    for place in (0, 1):
        expected = moments([level[place::2] for level in levels]).mean
        torch.testing.assert_close(halved.half_mean(place), expected)


def test_a_flow_that_leaves_nothing_is_refused() -> None:
    sigma = torch.eye(4, dtype=torch.float64)
    assert expected_factor(sigma, 3, norm=1.0, time=30.0).isfinite().all()
    with pytest.raises(InputError, match="^time: a flow of length t = 10000 leaves nothing"):
        expected_factor(sigma, 3, norm=1.0, time=1e4)


@pytest.mark.parametrize("time", [0.0, 1e4])
@pytest.mark.parametrize("norm", [1e-9, 1e12])
def test_extreme_arguments_give_finite_scores(time: float, norm: float) -> None:
    levels = [level.float() for level in toy_levels(5, batch=1)]
    few = [level[:, :, :2, :2] for level in levels]  # of low rank, which rounding fills
    projector = Conv1x1(CHANNELS)
    objective = Norm(time=time, cell=None, bias="flow", norm=norm)
    objective.observe(few)
    objective.finish(projector)
    assert objective(projector(levels)).isfinite().all()


@pytest.mark.parametrize(("rows", "size"), [(5, 40), (200, 40), (5, 600), (190, 600), (900, 600)])
def test_a_spectrum_of_few_vectors_is_that_of_all(rows: int, size: int) -> None:
    f = np.random.default_rng(rows).normal(size=(rows, size))
    f[:, -1] = 1
    sigma = torch.from_numpy(f.T @ f / rows)
    rates, vectors = spectrum(sigma)
    scale = sigma.diagonal().mean()
    torch.testing.assert_close((vectors * rates * scale) @ vectors.T, sigma)
    torch.testing.assert_close(vectors.T @ vectors, torch.eye(size, dtype=torch.float64))
    torch.testing.assert_close(rates, torch.linalg.eigvalsh(sigma) / scale, atol=1e-9, rtol=1e-6)
    assert (rates.diff() >= -1e-12).all()
