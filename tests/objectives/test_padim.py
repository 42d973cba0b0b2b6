"""PaDiM against its formula in scipy, position by position."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import mahalanobis

from occ_lab.features.levels import join
from occ_lab.objectives.padim import PaDiM
from occ_lab.projectors import Conv1x1, Identity
from occ_lab.utils.errors import InputError
from tests.objectives.processes import in_two_processes
from tests.objectives.runs import run_and_load

CHANNELS = [4, 3]


def some_levels(seed: int, images: int = 9, side: int = 4) -> list[torch.Tensor]:
    """Levels on two grids, or on one position each; far from zero, as features may be."""
    generator = torch.Generator().manual_seed(seed)
    sides = (side, max(1, side // 2))
    return [
        5 + torch.randn(images, channels, s, s + (side > 1), generator=generator)
        for channels, s in zip(CHANNELS, sides, strict=True)
    ]


def fitted(*batches: list[torch.Tensor], **arguments: float) -> PaDiM:
    objective = PaDiM(**arguments)
    for batch in batches:
        objective.observe(batch)
    objective.finish(Identity(CHANNELS))
    return objective


def plain(
    train: list[torch.Tensor], test: list[torch.Tensor], chosen: torch.Tensor, shrinkage: float
) -> np.ndarray:
    """The scores ``[B, H, W]`` by the class's docstring."""
    f, g = (join(levels)[:, chosen].double().numpy() for levels in (train, test))
    variance = f.var(axis=0).mean()
    scores = np.empty((len(g), *g.shape[-2:]))
    for y, x in np.ndindex(*g.shape[-2:]):
        covariance = np.atleast_2d(np.cov(f[:, :, y, x].T, bias=True))
        shrunk = (1 - shrinkage) * covariance + shrinkage * variance * np.eye(len(covariance))
        mean, inverse = f[:, :, y, x].mean(0), np.linalg.inv(shrunk)
        scores[:, y, x] = [mahalanobis(row, mean, inverse) for row in g[:, :, y, x]]
    return scores


@settings(deadline=None, max_examples=20)
@given(
    images=st.integers(2, 12),
    side=st.integers(1, 5),
    dims=st.integers(1, 9),
    shrinkage=st.sampled_from([0.01, 0.3, 1.0]),
    seed=st.integers(0, 99),
)
def test_scores_are_mahalanobis_distances(
    images: int, side: int, dims: int, shrinkage: float, seed: int
) -> None:
    train, test = some_levels(seed, images, side), some_levels(seed + 100, 3, side)
    objective = fitted(train, dims=dims, shrinkage=shrinkage, seed=seed)
    assert len(objective.chosen) == min(dims, 7)
    expected = plain(train, test, objective.chosen, shrinkage)
    ours = objective(join(test))
    assert ours.dtype == torch.float32
    # near the mean the difference to it has few digits left in float32
    np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=2e-6)


def test_without_shrinkage_enough_images_do() -> None:
    train, test = some_levels(0, images=30), some_levels(1)
    objective = fitted(train, shrinkage=0.0)
    expected = plain(train, test, objective.chosen, 0.0)
    np.testing.assert_allclose(objective(join(test)), expected, rtol=1e-4)
    with pytest.raises(InputError, match="covariance of the features is singular"):
        fitted(some_levels(0, images=5), shrinkage=0.0)


def test_a_position_where_nothing_varies_has_a_distance() -> None:
    train, test = some_levels(0), some_levels(1)
    for level in train:
        level[:, :, :2, :2] = 3.0
    assert torch.isfinite(fitted(train)(join(test))).all()
    with pytest.raises(InputError, match="more training images"):
        fitted(some_levels(0, images=1))


@settings(deadline=None, max_examples=15)
@given(size=st.integers(1, 9), seed=st.integers(0, 99))
def test_batches_and_their_order_do_not_matter(size: int, seed: int) -> None:
    levels = some_levels(2)
    order = torch.randperm(9, generator=torch.Generator().manual_seed(seed))
    parts = [[level[part] for level in levels] for part in order.split(size)]
    torch.testing.assert_close(
        fitted(*parts)(join(levels)), fitted(levels)(join(levels)), rtol=1e-5, atol=0
    )


def chosen_of(dims: int, seed: int = 0) -> torch.Tensor:
    objective = PaDiM(dims=dims, seed=seed)
    objective.build(50)
    return objective.chosen


def test_the_seed_chooses_the_channels() -> None:
    choices = [chosen_of(dims=10, seed=seed) for seed in (0, 0, 1)]
    assert torch.equal(choices[0], choices[1])
    assert not torch.equal(choices[0], choices[2])
    assert len(choices[0].unique()) == 10
    assert torch.equal(chosen_of(dims=90), torch.arange(50))


def test_half_precision_maps_are_scored_in_full() -> None:
    objective, z = fitted(some_levels(0)), join(some_levels(1)).half()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        score = objective(z)
    assert score.dtype == torch.float32
    torch.testing.assert_close(score, objective(z.float()))


def test_state_dict_round_trip() -> None:
    trained, z = fitted(some_levels(0)), join(some_levels(1))
    fresh = PaDiM(seed=1)
    fresh.load_state_dict(trained.state_dict())
    assert torch.equal(fresh(z), trained(z))
    with pytest.raises(RuntimeError, match="factor"):
        fresh.load_state_dict({"mean": trained.mean, "chosen": trained.chosen})


def test_another_projector_is_refused() -> None:
    objective = PaDiM()
    objective.observe(some_levels(0))
    with pytest.raises(InputError, match="use the projector Identity"):
        objective.finish(Conv1x1(CHANNELS))


@pytest.mark.parametrize(
    ("name", "value"), [("dims", 0), ("dims", 1.5), ("shrinkage", -1), ("shrinkage", 1.1)]
)
def test_bad_arguments_are_named(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"^{name} must be "):
        PaDiM(**{name: value})


def half_of_the_batches(rank: int) -> None:
    batches = [some_levels(seed) for seed in range(5)]
    z = join(some_levels(9))
    ours = fitted(*batches[rank::2])(z)
    train = [torch.cat(levels) for levels in zip(*batches, strict=True)]
    expected = plain(train, some_levels(9), torch.arange(7), 0.01)
    # near the mean the difference to it has few digits left in float32
    np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=2e-6)


def test_two_processes_fit_the_whole(tmp_path: Path) -> None:
    in_two_processes(half_of_the_batches, tmp_path)


def test_a_checkpoint_scores_as_its_run_did(tmp_path: Path) -> None:
    written, loaded = run_and_load(tmp_path, "loss=padim", "loss.dims=20")
    torch.testing.assert_close(loaded, written, rtol=1e-4, atol=0)
