"""The Gaussian against its formula in scipy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import mahalanobis
from scipy.stats import spearmanr
from sklearn.mixture import GaussianMixture

from occ_lab.config.composition import composed
from occ_lab.objectives.gaussian import Gaussian, inverse_factor
from occ_lab.projectors import Conv1x1, Identity
from occ_lab.utils.errors import InputError
from tests.objectives.norm.test_closed_form import CHANNELS, positions, toy_levels
from tests.objectives.runs import run_and_load


def fitted(
    batches: list[list[torch.Tensor]], channels: list[int], **arguments: float
) -> tuple[Gaussian, Conv1x1]:
    objective = Gaussian(**arguments)
    projector = Conv1x1(channels, normalize=bool(arguments.get("normalize"))).double()
    for batch in batches:
        objective.observe(batch)
    objective.finish(projector)
    return objective, projector


def plain(train: np.ndarray, test: np.ndarray, shrinkage: float) -> np.ndarray:
    """Mahalanobis distances ``[M]`` of rows ``[M, C]`` to the Gaussian of rows ``[N, C]``."""
    covariance = np.cov(train.T, bias=True).reshape(train.shape[1], train.shape[1])
    target = np.trace(covariance) / len(covariance) * np.eye(len(covariance))
    inverse = np.linalg.inv((1 - shrinkage) * covariance + shrinkage * target)
    return np.array([mahalanobis(row, train.mean(0), inverse) for row in test])


@pytest.mark.parametrize("shrinkage", [0.0, 0.01, 1.0])
@pytest.mark.parametrize("normalize", [False, True])
def test_score_is_the_mahalanobis_distance(shrinkage: float, normalize: bool) -> None:
    train, test = toy_levels(0), toy_levels(1)
    objective, projector = fitted([train], CHANNELS, shrinkage=shrinkage, normalize=normalize)
    rows = [positions(levels)[:, :-1] for levels in (train, test)]
    if normalize:
        rows = [f * 3 / np.linalg.norm(f, axis=1, keepdims=True) for f in rows]
    ours = objective(projector(test))
    assert ours.shape == (6, 8, 8)
    np.testing.assert_allclose(ours.detach().flatten(), plain(*rows, shrinkage), rtol=1e-9)


def test_gde_ranks_as_the_density_of_scikit_learn() -> None:
    """As Sohn et al. 2021 have it: of unit vectors, with scikit-learn's ridge of 1e-6."""
    cfg = composed("train", ["loss=gde"])
    random = torch.Generator().manual_seed(0)
    mixing = torch.randn(64, 64, generator=random) * torch.logspace(0, -2, 64)
    train, test = (
        (torch.randn(n, 64, generator=random) @ mixing.T + 0.3).relu().double() for n in (2000, 500)
    )
    objective, projector = fitted(
        [[train[..., None, None]]],
        [64],
        shrinkage=cfg.loss.shrinkage,
        normalize=cfg.projector.normalize,
    )
    unit = [(f / f.norm(dim=1, keepdim=True)).numpy() for f in (train, test)]
    density = GaussianMixture(1, covariance_type="full").fit(unit[0])
    ours = objective(projector([test[..., None, None]])).detach().flatten()
    assert spearmanr(ours, -density.score_samples(unit[1])).statistic > 0.9999


@settings(deadline=None, max_examples=15)
@given(size=st.integers(1, 6), seed=st.integers(0, 99))
def test_batches_and_their_order_do_not_matter(size: int, seed: int) -> None:
    levels = toy_levels(2)
    order = torch.randperm(6, generator=torch.Generator().manual_seed(seed))
    parts = [[level[part] for level in levels] for part in order.split(size)]
    scores = [o(p(levels)) for o, p in (fitted([levels], CHANNELS), fitted(parts, CHANNELS))]
    torch.testing.assert_close(*scores, rtol=1e-9, atol=0)


def test_fewer_features_than_channels_have_a_distance() -> None:
    train = torch.randn(5, 12, 1, 1, generator=torch.Generator().manual_seed(0))  # semantic
    test = torch.randn(4, 12, 1, 1, generator=torch.Generator().manual_seed(1)).double()
    objective, projector = fitted([[train]], [12])
    ours = objective(projector([test])).detach()
    expected = plain(train.double().flatten(1).numpy(), test.flatten(1).numpy(), 0.01)
    assert ours.shape == (4, 1, 1)
    np.testing.assert_allclose(ours.flatten(), expected, rtol=1e-5)


def test_single_precision_is_near() -> None:
    levels = toy_levels(3)
    objective, projector = fitted([levels], CHANNELS)
    expected = objective(projector(levels))
    ours = objective(projector.float()([level.float() for level in levels]))
    torch.testing.assert_close(ours.double(), expected, rtol=1e-4, atol=0)


@pytest.mark.parametrize("shrinkage", [0.0, 0.01])
def test_singular_covariance_is_the_users_to_mend(shrinkage: float) -> None:
    same = torch.ones(5, 12, 1, 1)
    few = torch.randn(5, 12, 1, 1, generator=torch.Generator().manual_seed(0))
    with pytest.raises(InputError, match="covariance of the features is singular"):
        fitted([[same if shrinkage else few]], [12], shrinkage=shrinkage)


def test_what_rounding_left_of_a_direction_is_no_variance() -> None:
    covariance = torch.diag(torch.tensor([1.0, 1e-17], dtype=torch.float64))
    with pytest.raises(InputError, match="singular"):
        inverse_factor(covariance, 0.0, torch.tensor(0.5))


def test_inverse_factor_of_many_is_that_of_each() -> None:
    x = torch.randn(7, 20, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    covariances = x.mT @ x
    factors = inverse_factor(covariances, 0.1, torch.tensor(2.0))
    expected = torch.linalg.inv(0.9 * covariances + 0.2 * torch.eye(4, dtype=torch.float64))
    torch.testing.assert_close(factors.mT @ factors, expected)
    assert torch.equal(factors, factors.tril())
    torch.testing.assert_close(inverse_factor(covariances[3], 0.1, torch.tensor(2.0)), factors[3])


def test_needs_a_projector_that_can_be_set() -> None:
    objective = Gaussian()
    objective.observe(toy_levels(0))
    with pytest.raises(InputError, match="Conv1x1"):
        objective.finish(Identity(CHANNELS))


@pytest.mark.parametrize("value", [-0.1, 1.1, "much"])
def test_bad_arguments_are_named(value: object) -> None:
    with pytest.raises(ValueError, match="^shrinkage must be "):
        Gaussian(shrinkage=value)  # type: ignore[arg-type]


@pytest.mark.parametrize("loss", ["gaussian", "gde"])
def test_a_checkpoint_scores_as_its_run_did(loss: str, tmp_path: Path) -> None:
    written, loaded = run_and_load(tmp_path, f"loss={loss}")
    torch.testing.assert_close(loaded, written, rtol=1e-5, atol=0)
