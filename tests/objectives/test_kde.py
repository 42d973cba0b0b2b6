"""The kernel density against scikit-learn's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.neighbors import KernelDensity

from occ_lab.features.levels import join
from occ_lab.objectives.kde import KDE
from occ_lab.objectives.neighbours import rows
from occ_lab.projectors import Conv1x1, Identity
from occ_lab.utils.errors import InputError
from tests.objectives.processes import in_two_processes
from tests.objectives.runs import run_and_load
from tests.objectives.test_knn import CHANNELS, as_set
from tests.objectives.test_knn import some_levels as single_levels


def some_levels(*arguments: int, **named: int) -> list[torch.Tensor]:
    return [level.double() for level in single_levels(*arguments, **named)]


def fitted(*batches: list[torch.Tensor], **arguments: float) -> KDE:
    objective = KDE(**arguments).double()
    for batch in batches:
        objective.observe(batch)
    objective.finish(Identity(CHANNELS))
    return objective


def units(levels: list[torch.Tensor]) -> np.ndarray:
    """The positions ``[N, C]`` of levels, scaled to length 1."""
    x = rows(join(levels)).numpy()
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def plain(train: np.ndarray, test: np.ndarray, scale: float) -> np.ndarray:
    """Scores ``[M]`` of unit rows ``[M, C]`` by scikit-learn's density of unit rows ``[N, C]``."""
    gamma = scale / (train.var() * train.shape[1])
    bandwidth = (2 * gamma) ** -0.5
    density = KernelDensity(bandwidth=bandwidth, rtol=0).fit(train).score_samples(test)
    volume = train.shape[1] * np.log(bandwidth * (2 * np.pi) ** 0.5)
    return -(density + volume) / gamma


@settings(deadline=None, max_examples=25)
@given(
    scale=st.sampled_from([0.1, 10, 1000]),
    side=st.integers(1, 4),
    chunk=st.integers(1, 60),
    seed=st.integers(0, 99),
)
def test_score_is_a_negative_log_density(scale: float, side: int, chunk: int, seed: int) -> None:
    train, test = some_levels(seed, side=side), some_levels(seed + 100, 3, side)
    ours = fitted(train, scale=scale, chunk=chunk)(join(test))
    assert ours.shape == (3, side, side)
    expected = plain(units(train), units(test), scale)
    np.testing.assert_allclose(ours.flatten(), expected, rtol=1e-9, atol=1e-12)


def test_score_is_that_of_the_papers_code_but_for_a_constant() -> None:
    train, test = units(some_levels(0)), units(some_levels(1))
    gamma = 10 / (np.var(train) * train.shape[1])
    theirs = -np.log(np.exp(2 * gamma * test @ train.T).sum(axis=1)) / gamma
    ours = fitted(some_levels(0))(join(some_levels(1)))
    np.testing.assert_allclose(ours.flatten(), theirs + 2 + np.log(len(train)) / gamma, rtol=1e-9)


@settings(deadline=None, max_examples=15)
@given(seed=st.integers(0, 99), largest=st.floats(0.1, 1e4))
def test_the_length_of_a_feature_does_not_matter(seed: int, largest: float) -> None:
    f, z = join(some_levels(seed)), join(some_levels(seed + 100))
    lengths = torch.rand(5, 1, 4, 4, generator=torch.Generator().manual_seed(seed)) * largest + 0.01
    objectives = []
    for train in (f, f * lengths):
        objectives.append(KDE().double())
        objectives[-1].observe([train])
        objectives[-1].finish(Identity([7]))
    expected = objectives[0](z)
    for objective in objectives:
        torch.testing.assert_close(objective(z * lengths), expected, rtol=1e-9, atol=1e-12)


@settings(deadline=None, max_examples=15)
@given(size=st.integers(1, 5), seed=st.integers(0, 99))
def test_batches_and_their_order_do_not_matter(size: int, seed: int) -> None:
    levels, z = some_levels(2), join(some_levels(3))
    order = torch.randperm(5, generator=torch.Generator().manual_seed(seed))
    parts = [[level[part] for level in levels] for part in order.split(size)]
    torch.testing.assert_close(fitted(*parts)(z), fitted(levels)(z), rtol=1e-9, atol=0)


def test_a_sample_is_kept_where_there_is_more() -> None:
    levels = some_levels(0)
    banks = [fitted(levels, samples=20, seed=seed).bank for seed in (0, 0, 1)]
    assert torch.equal(banks[0], banks[1])
    assert as_set(banks[0]) != as_set(banks[2])
    assert len(as_set(banks[0])) == 20
    x = torch.from_numpy(units(levels))
    assert torch.cdist(banks[0], x).min(dim=1).values.max() < 1e-6


def test_the_gradient_is_that_of_finite_differences() -> None:
    z = join(some_levels(1, images=1, side=2)).requires_grad_()
    assert torch.autograd.gradcheck(fitted(some_levels(0)), z)


def test_far_away_and_at_zero_all_is_finite() -> None:
    objective = fitted(some_levels(0), scale=1e6).float()
    z = torch.cat([-join(some_levels(1)), torch.zeros(1, 7, 4, 4)]).requires_grad_()
    score = objective(z)
    assert torch.isfinite(score).all()
    assert score.max() > 2
    score.sum().backward()
    assert torch.isfinite(z.grad).all()
    with_zero = [torch.cat([level, torch.zeros_like(level[:1])]) for level in some_levels(0)]
    assert torch.isfinite(fitted(with_zero)(z)).all()


def test_half_precision_maps_are_scored_in_full() -> None:
    objective, z = fitted(some_levels(0)).float(), join(some_levels(1)).half()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        score = objective(z)
    assert score.dtype == torch.float32
    torch.testing.assert_close(score, objective(z.float()))


def test_single_precision_is_near_where_features_are_much_alike() -> None:
    train, test = ([level * 0.01 + 1 for level in some_levels(seed)] for seed in (0, 1))
    objective = KDE(scale=0.1)
    objective.observe([level.float() for level in train])
    objective.finish(Identity(CHANNELS))
    ours = objective(join(test).float())
    expected = plain(units(train), units(test), 0.1)
    np.testing.assert_allclose(ours.flatten(), expected, rtol=1e-3)


def test_state_dict_round_trip() -> None:
    trained, z = fitted(some_levels(0), samples=30), join(some_levels(1))
    fresh = KDE().double()
    fresh.load_state_dict(trained.state_dict())
    assert torch.equal(fresh(z), trained(z))


@pytest.mark.parametrize("channels", [1, 12, 2048])
@pytest.mark.parametrize("lengths", [torch.ones(9), torch.arange(1, 10) / 7, torch.zeros(9)])
def test_features_of_one_value_are_the_users_to_mend(lengths: torch.Tensor, channels: int) -> None:
    objective = KDE()
    objective.observe([lengths[:, None, None, None].expand(9, channels, 1, 1)])
    with pytest.raises(InputError, match=r"^scale: .* same value in every channel"):
        objective.finish(Identity([channels]))


def test_another_projector_is_refused() -> None:
    objective = KDE()
    objective.observe(some_levels(0))
    with pytest.raises(InputError, match="use the projector Identity"):
        objective.finish(Conv1x1(CHANNELS))


@pytest.mark.parametrize(
    ("name", "value"), [("samples", 0), ("samples", 1.5), ("scale", 0), ("chunk", 0)]
)
def test_bad_arguments_are_named(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"^{name} must be "):
        KDE(**{name: value})


def half_of_the_batches(rank: int) -> None:
    batches = [some_levels(seed) for seed in range(4)]
    z = join(some_levels(9))
    ours = fitted(*batches[rank::2])(z)
    train = np.concatenate([units(batch) for batch in batches])
    np.testing.assert_allclose(ours.flatten(), plain(train, units(some_levels(9)), 10), rtol=1e-9)


def test_two_processes_fit_the_whole(tmp_path: Path) -> None:
    in_two_processes(half_of_the_batches, tmp_path)


def test_a_checkpoint_scores_as_its_run_did(tmp_path: Path) -> None:
    written, loaded = run_and_load(tmp_path, "loss=kde", "loss.samples=100")
    torch.testing.assert_close(loaded, written, rtol=1e-4, atol=1e-5)
