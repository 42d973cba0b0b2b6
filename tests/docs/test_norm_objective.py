"""Every numbered formula of the page on the norm objective, by NumPy and SciPy."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.linalg import expm
from scipy.optimize import minimize_scalar
from scipy.stats import invwishart

from occ_lab.objectives.norm.closed_form import expected_factor, initial_moment
from occ_lab.objectives.norm.domain import domain_end
from occ_lab.objectives.norm.local_form import (
    INTEGRATED,
    flow_factors,
    flow_form,
    flow_spectra,
    kept_fraction,
    shrunk_to_mean,
    solved_form,
    solved_spectra,
)
from occ_lab.objectives.norm.local_moments import LocalMoments
from occ_lab.objectives.norm.objective import Norm
from occ_lab.projectors import Conv1x1
from tests.docs.pages import page_text

PAGE = "docs/reference/norm_objective.md"
C, OUTPUTS, NORM, TIME = 5, 7, 1.5, 2.0
MOMENT = OUTPUTS / (3 * C)


def features(count: int, seed: int = 0) -> np.ndarray:
    """Correlated features ``[N, C]`` with a mean."""
    generator = np.random.default_rng(seed)
    mix = np.random.default_rng(9).normal(size=(C, C))
    return generator.normal(size=(count, C)) @ mix + np.arange(C) / 2


def extended(f: np.ndarray) -> np.ndarray:
    return np.concatenate([f, np.ones((len(f), 1))], axis=1)


TRAIN = features(500)
TESTED = features(20, seed=1) + 0.3
F = extended(TRAIN)
SIGMA = F.T @ F / len(F)
UNIT = np.trace(SIGMA) / len(SIGMA)
A = MOMENT * np.eye(C + 1) + NORM**2 * np.outer(np.eye(C + 1)[C], np.eye(C + 1)[C])


def flow(time: float, sigma: np.ndarray = SIGMA) -> np.ndarray:
    return expm(-time * sigma / (np.trace(sigma) / len(sigma)))


def form(f: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """``fᵀ M f`` of every row."""
    return np.einsum("ni,ij,nj->n", f, matrix, f)


def factored(
    f: np.ndarray, sigma: np.ndarray, times: Sequence[float], norm: float = 0.0
) -> np.ndarray:
    """The squared scores of a single cell, by the package."""
    one = torch.ones(1, dtype=torch.float64)
    factor = flow_factors(torch.from_numpy(sigma)[None], one, times, MOMENT, norm)[0].numpy()
    return np.square(f @ factor.T).sum(axis=1)


def over_all_times(score: Callable[[float], np.ndarray], slowest: float) -> np.ndarray:
    """``∫ score(t) dt``, by trapezoids over ln t, until the slowest rate λ/s has come to rest."""
    logs = np.linspace(np.log(1e-6), np.log(15 / slowest), 600)
    return np.trapezoid([np.exp(log) * score(float(np.exp(log))) for log in logs], logs, axis=0)


def test_1_the_loss_is_a_quadratic_form() -> None:
    projector, target = torch.nn.Conv2d(C, OUTPUTS, 1).double(), torch.randn(OUTPUTS).double()
    objective = Norm(OUTPUTS, solver="gradient", squared=True, nu=1.0, radius=0.0).double()
    objective.target = target
    maps = torch.from_numpy(TRAIN).T.reshape(1, C, 25, 20)
    ours = objective.loss(projector(maps)).detach()
    weight, bias = (each.detach().numpy() for each in projector.parameters())
    delta = np.concatenate([weight[:, :, 0, 0], (bias - target.numpy())[:, None]], axis=1)
    assert float(ours) == pytest.approx(np.trace(delta @ SIGMA @ delta.T))


def test_2_the_flow_is_an_exponential() -> None:
    tau, step = TIME / (2 * UNIT), 1e-6
    left, later = (expm(-2 * each * SIGMA) for each in (tau, tau + step))
    np.testing.assert_allclose((later - left) / step, -2 * left @ SIGMA, atol=1e-4)
    ours = expected_factor(torch.from_numpy(SIGMA), OUTPUTS, 0.0, TIME).numpy()
    np.testing.assert_allclose(ours.T @ ours, MOMENT * left @ left, atol=1e-9)  # a F F


def draws(count: int, target: np.ndarray) -> np.ndarray:
    """Δ₀ of projectors as PyTorch draws them, ``[N, C', C + 1]``."""
    bound = 1 / np.sqrt(C)
    drawn = np.random.default_rng(0).uniform(-bound, bound, (count, len(target), C + 1))
    drawn[..., -1] -= target
    return drawn


@pytest.mark.parametrize("target", [np.ones(OUTPUTS), np.eye(OUTPUTS)[3]])
def test_3_only_the_norm_of_the_target_is_left(target: np.ndarray) -> None:
    delta = draws(40_000, NORM * target / np.linalg.norm(target))
    mean = np.einsum("nji,njk->ik", delta, delta) / len(delta)
    np.testing.assert_allclose(mean, A, atol=0.03)
    assert initial_moment(C, OUTPUTS) == pytest.approx(MOMENT)
    weight = torch.nn.Conv2d(C, 9999, 1).weight.detach()
    assert float(weight.var()) == pytest.approx(1 / (3 * C), rel=0.02)


def test_4_the_expected_score() -> None:
    factor = expected_factor(torch.from_numpy(SIGMA), OUTPUTS, NORM, TIME).numpy()
    ours = np.square(extended(TESTED) @ factor.T).sum(axis=1)
    theirs = form(extended(TESTED), flow(TIME) @ A @ flow(TIME))
    np.testing.assert_allclose(ours, theirs, rtol=1e-6)


def components(f: np.ndarray, sigma: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """λ/s, and the components along the eigenvectors."""
    values, vectors = np.linalg.eigh(sigma)
    return values / values.mean(), f @ vectors


def test_5_every_direction_has_a_weight() -> None:
    rates, y = components(extended(TESTED), SIGMA)
    theirs = MOMENT * y**2 @ np.exp(-2 * TIME * rates)
    np.testing.assert_allclose(factored(extended(TESTED), SIGMA, [TIME]), theirs, rtol=1e-6)


def test_6_with_a_gap_it_is_the_residual_of_principal_components() -> None:
    rotation, _ = np.linalg.qr(np.random.default_rng(2).normal(size=(C, C)))
    sigma = rotation * [3.0, 1.0, 1e-5, 1e-6, 0.0] @ rotation.T
    leading = rotation[:, :2]
    residual = TESTED - TESTED @ leading @ leading.T
    theirs = MOMENT * np.square(residual).sum(axis=1)
    np.testing.assert_allclose(factored(TESTED, sigma, [30.0]), theirs, rtol=1e-2)


@pytest.mark.parametrize("time", INTEGRATED)
def test_7_a_time_is_a_band_of_variances(time: float) -> None:
    found = minimize_scalar(
        lambda x: -np.exp(x - 2 * time * np.exp(x)), bounds=(-9, 3), method="bounded"
    )
    assert np.exp(found.x) == pytest.approx(1 / (2 * time), rel=1e-3)  # λ/s
    # By the package: the mean term of a direction, of several of which one is in the band.
    variances = np.array([0.1, 0.3, 1.0, 3.0, 10.0]) / (2 * time)
    variances = np.append(variances, [20 - variances.sum(), *[0.0] * 14])  # the mean is 1
    each = factored(np.diag(np.sqrt(variances)), np.diag(variances), [time])
    assert int(each.argmax()) == 2


def test_8_over_all_times_every_direction_counts_the_same() -> None:
    variances = np.array([0.02, 0.3, 1.0, 4.0])
    unit = variances.mean()
    for variance in variances:
        integral, _ = quad(lambda t, k=variance: k * np.exp(-2 * t * k / unit), 0, np.inf)
        assert integral == pytest.approx(unit / 2)
    each = np.diag(np.sqrt(variances))
    ours = over_all_times(lambda t: factored(each, np.diag(variances), [t]), 0.02 / unit)
    np.testing.assert_allclose(ours, MOMENT * unit / 2, rtol=1e-3)


def test_9_over_all_times_the_score_is_the_mahalanobis_distance() -> None:
    slowest = np.linalg.eigvalsh(SIGMA).min() / UNIT
    ours = over_all_times(lambda t: factored(extended(TESTED), SIGMA, [t]), slowest)
    inverse = form(extended(TESTED), np.linalg.inv(SIGMA))
    np.testing.assert_allclose(ours, MOMENT * UNIT / 2 * inverse, rtol=2e-3)
    off = TESTED - TRAIN.mean(axis=0)
    distance = form(off, np.linalg.inv(np.cov(TRAIN.T, bias=True)))
    np.testing.assert_allclose(inverse, 1 + distance)


def weighted(times: Sequence[float], sigma: np.ndarray, a: np.ndarray) -> list[float]:
    means = [float(np.trace(flow(t, sigma) @ a @ flow(t, sigma) @ sigma)) for t in times]
    return [float(np.mean(means)) / mean for mean in means]


def test_10_each_time_is_divided_by_its_mean() -> None:
    weights = weighted(INTEGRATED, SIGMA, A)
    terms = [
        weight * form(extended(TESTED), flow(t) @ A @ flow(t))
        for weight, t in zip(weights, INTEGRATED, strict=True)
    ]
    ours = factored(extended(TESTED), SIGMA, INTEGRATED, NORM)
    np.testing.assert_allclose(ours, sum(terms), rtol=1e-6)
    # The page names the times and the bands of the shortest and the longest.
    *first, last = (f"{t:g}" for t in INTEGRATED)
    assert f"t = {', '.join(first)} and {last}" in re.sub(r"\s+", " ", page_text(PAGE))
    assert f"Above $s/{2 * min(INTEGRATED):g}$" in page_text(PAGE)
    assert f"Below $s/{2 * max(INTEGRATED):g}$" in page_text(PAGE)


def test_11_on_an_even_spectrum_the_weights_are_those_of_the_integral() -> None:
    variances = np.geomspace(1e-6, 1, 300)
    sigma = np.diag(variances)
    per_factor = 300 / np.log(1e6)
    for t in INTEGRATED:
        unit = variances.mean()
        mean = np.exp(-2 * t * variances / unit) @ variances
        assert mean == pytest.approx(per_factor * unit / (2 * t), rel=0.03)
    weights = np.array(weighted(INTEGRATED, sigma, np.eye(300)))
    np.testing.assert_allclose(weights / weights[0], np.divide(INTEGRATED, INTEGRATED[0]), rtol=0.1)
    # By the package, along directions within the bands of a fine grid: as 1/λ.
    times = np.geomspace(0.03, 300, 60).tolist()
    ours = factored(np.eye(300), sigma, times)
    inside = (variances > 0.02 * unit) & (variances < 3 * unit)
    slope = np.polyfit(np.log(variances[inside]), np.log(ours[inside]), 1)[0]
    assert slope == pytest.approx(-1, abs=0.06)
    integral, _ = quad(lambda x: np.exp(x - 2 * 0.7 * np.exp(x)), -30, 10)
    assert integral == pytest.approx(1 / (2 * 0.7))


def parts(f: np.ndarray, time: float) -> tuple[np.ndarray, np.ndarray]:
    """s₀² and s₁ by their definition."""
    moved = extended(f) @ flow(time)
    return MOMENT * np.square(moved).sum(axis=1), moved[:, -1]


def in_one_cell(norm: float, time: float) -> np.ndarray:
    """Squared scores by the package, where the bias follows the flow."""
    moments = LocalMoments()
    moments.update([torch.from_numpy(TRAIN).T.reshape(1, C, 25, 20)])
    made = flow_form(flow_spectra(moments), [time], MOMENT, norm)
    return np.square(TESTED @ made.weight[0].numpy().T + made.bias[0].numpy()).sum(axis=1)


@pytest.mark.parametrize("time", [0.0, TIME])
def test_12_the_score_has_two_parts(time: float) -> None:
    spread, constant = parts(TESTED, time)
    np.testing.assert_allclose(
        in_one_cell(NORM, time), spread + NORM**2 * constant**2, rtol=1e-5, atol=1e-9
    )
    values, vectors = np.linalg.eigh(SIGMA)
    along = vectors[-1] * np.exp(-time * values / UNIT)
    np.testing.assert_allclose(constant, extended(TESTED) @ vectors @ along)
    if time == 0:
        np.testing.assert_allclose(constant, 1)


def test_13_a_large_norm_drowns_the_rest() -> None:
    _, constant = parts(TESTED, TIME)
    np.testing.assert_allclose(in_one_cell(1e5, TIME) / 1e10, constant**2, rtol=1e-3, atol=1e-9)


def test_14_separation_falls_to_a_fraction_of_root_two_at_the_end() -> None:
    generator = np.random.default_rng(0)
    spread, constant = generator.chisquare(4, 1000), generator.chisquare(1, 1000)
    # Uncorrelated to the last digit, as the worst case assumes.
    off = spread - spread.mean()
    constant = constant - off * (constant @ off) / (off @ off)
    end = domain_end(torch.from_numpy(spread), torch.from_numpy(constant))
    assert end == pytest.approx(np.sqrt(spread.std() / constant.std()))
    for fraction, lost in ((0.5, 0.03), (1.0, 1 - 1 / np.sqrt(2)), (2.0, 0.76)):
        norm = fraction * end
        left = spread.std() / (spread + norm**2 * constant).std()
        assert left == pytest.approx(1 / np.sqrt(1 + fraction**4))
        assert 1 - left == pytest.approx(lost, abs=0.005)


def test_15_with_a_solved_bias_nothing_of_the_target_is_left() -> None:
    mean, covariance = TRAIN.mean(axis=0), np.cov(TRAIN.T, bias=True)
    tau = 0.3
    (start,) = draws(1, np.arange(OUTPUTS))
    fast = np.diag([1.0] * C + [1e7])  # the rate of the bias
    end = start @ expm(-2 * tau * SIGMA @ fast)
    weight = start[:, :C] @ expm(-2 * tau * covariance)
    np.testing.assert_allclose(end[:, :C], weight, atol=1e-5)
    np.testing.assert_allclose(end[:, C], -weight @ mean, atol=1e-5)
    # By the package, one position and one cell.
    moments = LocalMoments(cell=1)
    moments.update([torch.from_numpy(TRAIN)[:, :, None, None]])
    made = solved_form(solved_spectra(moments), [TIME], MOMENT)
    np.testing.assert_allclose(made.mean.flatten(), mean)
    assert float(made.bias.abs().max()) == 0
    ours = np.square((TESTED - mean) @ made.weight[0].numpy().T).sum(axis=1)
    square = expm(-2 * TIME * covariance / UNIT)
    np.testing.assert_allclose(ours, MOMENT * form(TESTED - mean, square), rtol=1e-5, atol=1e-9)


def test_16_shrinkage_is_the_mean_of_a_posterior() -> None:
    sizes = np.array([4.0, 2.0])
    own = np.stack([np.cov(features(40, seed).T, bias=True) for seed in (3, 4)])
    mean = np.einsum("g,gij->ij", sizes / sizes.sum(), own)
    seen = 10 * sizes
    ours = shrunk_to_mean(*(torch.from_numpy(each) for each in (own, seen, sizes))).numpy()
    for index, m in enumerate(seen):
        # An inverse Wishart of ν degrees and scale S has the mean S / (ν − C − 1).
        prior = invwishart(df=2 * C + 1, scale=C * mean)
        np.testing.assert_allclose(prior.mean(), mean)
        posterior = invwishart(df=2 * C + 1 + m, scale=C * mean + m * own[index])
        np.testing.assert_allclose(ours[index], posterior.mean())


def test_17_the_fraction_of_a_deviation_that_is_kept() -> None:
    generator, positions, n = np.random.default_rng(0), 40_000, 5
    real, noise = 0.7, 2.0  # θ and the root of v
    truth = real * generator.normal(size=positions)
    seen = truth + noise * generator.normal(size=(n, positions))
    means = seen.mean(axis=0)
    best = means @ truth / (means @ means)  # the linear estimate of least squared error
    formula = real**2 / (real**2 + noise**2 / n)
    assert best == pytest.approx(formula, rel=0.03)
    assert formula == pytest.approx(1 - (noise**2 / n) / (real**2 + noise**2 / n))
    squares = (torch.tensor([total]) for total in (means @ means, np.square(seen - means).sum()))
    kept = kept_fraction(*squares, torch.tensor(float(n)))
    assert float(kept) == pytest.approx(formula, rel=0.03)


def test_18_padim_is_the_limit() -> None:
    """Two positions, a cell for each, and so many images that nothing is shrunk any more."""
    images = np.stack([features(20_000, seed=5), 2 * features(20_000, seed=6) + 1], axis=2)
    moments = LocalMoments(cell=1)
    moments.update([torch.from_numpy(images)[:, :, None]])
    tested = np.stack([TESTED, TESTED + 1])

    def score(t: float) -> np.ndarray:
        made = solved_form(solved_spectra(moments), [t], MOMENT)
        z = np.einsum("grc,gnc->gnr", made.weight, tested - made.mean.numpy())
        return np.square(z).sum(axis=2)

    covariances = [np.cov(images[:, :, x].T, bias=True) for x in (0, 1)]
    unit = (C * np.mean(images**2) + 1) / (C + 1)
    ours = over_all_times(score, min(np.linalg.eigvalsh(each).min() for each in covariances) / unit)
    for x, covariance in enumerate(covariances):
        distance = form(tested[x] - images[:, :, x].mean(axis=0), np.linalg.inv(covariance))
        np.testing.assert_allclose(ours[x], MOMENT * unit / 2 * distance, rtol=5e-3)


def test_19_small_steps_of_gradient_descent_follow_the_flow() -> None:
    tau = TIME / (2 * UNIT)
    factor = expected_factor(torch.from_numpy(SIGMA), OUTPUTS, 0.0, TIME).numpy()
    exact = factor.T @ factor / MOMENT  # F F
    errors = []
    for steps in (1000, 2000):
        delta = np.eye(C + 1)
        for _ in range(steps):
            delta = delta - 2 * tau / steps * delta @ SIGMA
        errors.append(np.abs(delta.T @ delta - exact).max())
    assert errors[1] < 1e-2
    assert errors[0] / errors[1] == pytest.approx(2, rel=0.05)


@pytest.mark.parametrize("norm", [0.0, NORM])
def test_20_the_score_of_a_draw_is_near_its_expectation(norm: float) -> None:
    wide = 60
    delta = draws(4000, norm * np.ones(wide) / np.sqrt(wide))
    f = extended(TESTED) @ flow(TIME)
    squares = np.square(np.einsum("nji,mi->nmj", delta, f)).sum(axis=2)
    factor = expected_factor(torch.from_numpy(SIGMA), wide, norm, TIME).numpy()
    expected = np.square(extended(TESTED) @ factor.T).sum(axis=1)
    np.testing.assert_allclose(squares.mean(axis=0), expected, rtol=0.02)
    scatter = squares.std(axis=0) / expected
    assert (scatter < 1.05 * np.sqrt(2 / wide)).all()
    assert scatter.max() > 0.5 * np.sqrt(2 / wide)  # not far below the bound
    assert f"{100 * np.sqrt(2 / 176):.0f} % for the 176 channels" in page_text(PAGE)


def test_every_formula_has_a_test() -> None:
    numbers = [int(n) for n in re.findall(r"\\qquad \((\d+)\)", page_text(PAGE))]
    assert numbers == list(range(1, len(numbers) + 1))
    tested = {int(n) for name in globals() for n in re.findall(r"^test_(\d+)_", name)}
    assert tested == set(numbers)


def test_the_numbers_that_are_kept_are_as_many_as_the_page_has_it() -> None:
    levels = [torch.rand(8, 3, 8, 8), torch.rand(8, 2, 4, 4)]
    objective = Norm(solver="closed_form", cell=4, bias="solved", time="integrated")
    projector = objective.default_projector([3, 2])
    objective.observe(levels)
    objective.finish(projector)
    cells, positions = 4, 16
    assert projector.weight.numel() <= cells * C**2  # type: ignore[union-attr, operator]
    assert projector.mean.numel() == cells * positions * C  # type: ignore[union-attr, operator]
    assert not isinstance(projector, Conv1x1)
