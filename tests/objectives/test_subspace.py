"""The principal subspace against scikit-learn's principal components."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.decomposition import PCA
from torch import Tensor

from occ_lab.features.levels import join
from occ_lab.objectives.subspace import Subspace, outside
from occ_lab.projectors import Conv1x1, Identity
from occ_lab.utils.errors import InputError
from tests.objectives.runs import run_and_load

CHANNELS = [4, 3]


def some_levels(seed: int, images: int = 6) -> list[Tensor]:
    """Levels whose directions differ in variance."""
    random = torch.Generator().manual_seed(seed)
    levels = [
        torch.randn(images, channels, side, side, generator=random)
        for channels, side in zip(CHANNELS, (8, 4), strict=True)
    ]
    scales = torch.logspace(0.5, -1, 4)
    return [3 + level * scales[: level.shape[1], None, None] for level in levels]


def positions(levels: list[Tensor]) -> np.ndarray:
    return join(levels).double().movedim(1, 3).flatten(0, 2).numpy()


def fitted(*batches: list[Tensor], explained: float = 0.9) -> tuple[Subspace, Conv1x1]:
    objective, projector = Subspace(explained), Conv1x1(CHANNELS)
    for batch in batches:
        objective.observe(batch)
    objective.finish(projector)
    return objective, projector


@settings(deadline=None, max_examples=20)
@given(explained=st.floats(0.1, 0.95), size=st.integers(1, 6), seed=st.integers(0, 99))
def test_score_is_the_squared_residual(explained: float, size: int, seed: int) -> None:
    train, test = some_levels(seed), some_levels(seed + 100)
    parts = zip(*(level.split(size) for level in train), strict=True)
    objective, projector = fitted(*map(list, parts), explained=explained)
    x, pca = positions(test), PCA(explained, svd_solver="full").fit(positions(train))
    expected = np.square(x - pca.inverse_transform(pca.transform(x))).sum(axis=1)
    ours = objective(projector(test)).detach()
    assert ours.shape == (6, 8, 8)
    assert projector.out_channels == sum(CHANNELS) - pca.n_components_
    np.testing.assert_allclose(ours.flatten(), expected, rtol=1e-3, atol=1e-4)


@settings(deadline=None, max_examples=20)
@given(values=st.lists(st.floats(0.01, 10), min_size=2, max_size=8), explained=st.floats(0.01, 0.9))
def test_the_subspace_has_as_few_components_as_possible(
    values: list[float], explained: float
) -> None:
    descending = np.sort(values)[::-1]
    fractions = np.cumsum(descending) / sum(values)
    if min(abs(fractions - explained)) < 1e-6:
        return
    components = int(np.argmax(fractions >= explained)) + 1
    covariance = torch.diag(torch.tensor(values, dtype=torch.float64))
    if components == len(values):
        with pytest.raises(InputError, match="^explained: .* set a lower one"):
            outside(covariance, explained)
        return
    rest = outside(covariance, explained)
    assert len(rest) == len(values) - components
    torch.testing.assert_close(rest @ rest.mT, torch.eye(len(rest)).double())


def test_without_variance_every_direction_is_outside() -> None:
    assert len(outside(torch.zeros(5, 5, dtype=torch.float64), 0.99)) == 5


def test_few_images_in_many_directions() -> None:
    """As of a wide backbone: the covariance has a low rank."""
    random = torch.Generator().manual_seed(0)
    train = [torch.randn(2, 600, 4, 4, generator=random)]
    test = [torch.randn(1, 600, 4, 4, generator=random)]
    objective, projector = Subspace(), Conv1x1([600])
    objective.observe(train)
    objective.finish(projector)
    x, pca = positions(test), PCA(0.99, svd_solver="full").fit(positions(train))
    expected = np.square(x - pca.inverse_transform(pca.transform(x))).sum(axis=1)
    ours = objective(projector(test)).detach().flatten()
    np.testing.assert_allclose(ours, expected, rtol=1e-3)


@pytest.mark.parametrize("value", [0, 1, -0.1, "most"])
def test_bad_arguments_are_named(value: object) -> None:
    with pytest.raises(ValueError, match="^explained must be "):
        Subspace(explained=value)  # type: ignore[arg-type]


def test_needs_a_projector_that_can_be_set() -> None:
    objective = Subspace()
    objective.observe(some_levels(0))
    with pytest.raises(InputError, match="Conv1x1"):
        objective.finish(Identity(CHANNELS))


def test_a_checkpoint_scores_as_its_run_did(tmp_path: Path) -> None:
    written, loaded = run_and_load(tmp_path, "loss=subspace")
    torch.testing.assert_close(loaded, written, rtol=1e-5, atol=0)
