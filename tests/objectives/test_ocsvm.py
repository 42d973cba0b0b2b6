"""The one-class support vector machine compared with scikit-learn's own scores."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.svm import OneClassSVM

from occ_lab.features.levels import join
from occ_lab.objectives.coreset import Reservoir
from occ_lab.objectives.neighbours import rows
from occ_lab.objectives.ocsvm import OCSVM
from occ_lab.projectors import Conv1x1, Identity
from occ_lab.utils.errors import InputError
from occ_lab.utils.processes import all_gathered
from tests.objectives.processes import in_two_processes
from tests.objectives.runs import run_and_load
from tests.objectives.test_kde import some_levels
from tests.objectives.test_knn import CHANNELS

both_kernels = pytest.mark.parametrize("kernel", ["linear", "rbf"])


def fitted(*batches: list[torch.Tensor], **arguments: object) -> OCSVM:
    objective = OCSVM(**arguments).double()
    for batch in batches:
        objective.observe(batch)
    objective.finish(Identity(CHANNELS))
    return objective


def plain(x: np.ndarray, y: np.ndarray, kernel: str, nu: float, scale: float) -> np.ndarray:
    """Scikit-learn's scores ``[M]`` of rows ``[M, C]``, fitted to rows ``[N, C]``."""
    if kernel == "rbf":
        x, y = (f / np.linalg.norm(f, axis=1, keepdims=True) for f in (x, y))
    gamma = scale / (x.var() * x.shape[1])
    machine = OneClassSVM(kernel=kernel, nu=nu, gamma=gamma).fit(x)
    return -machine.score_samples(y)


@settings(deadline=None, max_examples=30)
@given(
    kernel=st.sampled_from(["linear", "rbf"]),
    nu=st.sampled_from([0.001, 0.1, 0.5, 0.99]),
    scale=st.sampled_from([0.1, 1, 10]),
    side=st.integers(1, 4),
    chunk=st.integers(1, 60),
    seed=st.integers(0, 99),
)
def test_scores_are_scikit_learns(
    kernel: str, nu: float, scale: float, side: int, chunk: int, seed: int
) -> None:
    train, test = some_levels(seed, side=side), some_levels(seed + 100, 3, side)
    objective = fitted(train, kernel=kernel, nu=nu, scale=scale, chunk=chunk)
    ours = objective(join(test))
    assert ours.shape == (3, side, side)
    sample = Reservoir(20_000, seed=0)  # for their order: the solver stops when it is near enough
    sample.add(rows(join(train)))
    expected = plain(sample.taken().numpy(), rows(join(test)).numpy(), kernel, nu, scale)
    np.testing.assert_allclose(ours.flatten(), expected, rtol=1e-9, atol=1e-12)


@both_kernels
def test_the_order_hardly_matters(kernel: str) -> None:
    levels, z = some_levels(2), join(some_levels(3))
    turned = [level.flip(0) for level in levels]
    scores = [fitted(each, kernel=kernel)(z) for each in (levels, turned)]
    torch.testing.assert_close(*scores, rtol=1e-2, atol=1e-3)


def test_the_length_of_a_feature_matters_without_a_kernel_alone() -> None:
    train, z = [join(some_levels(0)), join(some_levels(1))]
    lengths = torch.arange(1, 6)[:, None, None, None]
    for kernel, unchanged in (("rbf", True), ("linear", False)):
        scores = []
        for f in (train, train * lengths):
            objective = OCSVM(kernel=kernel).double()
            objective.observe([f])
            objective.finish(Identity([7]))
            scores.append(objective(z))
        assert torch.allclose(*scores) == unchanged
        assert torch.allclose(scores[0], objective(z * lengths)) == unchanged


def test_without_a_kernel_one_vector_is_kept() -> None:
    assert fitted(some_levels(0), kernel="linear").support.shape == (1, 7)
    assert len(fitted(some_levels(0), nu=0.9).support) > 0.9 * 80
    assert len(fitted(some_levels(0), samples=10).support) <= 10


@both_kernels
def test_the_gradient_is_that_of_finite_differences(kernel: str) -> None:
    z = join(some_levels(1, images=1, side=2)).requires_grad_()
    assert torch.autograd.gradcheck(fitted(some_levels(0), kernel=kernel), z)


@both_kernels
def test_far_away_and_at_zero_all_is_finite(kernel: str) -> None:
    objective = fitted(some_levels(0), kernel=kernel, scale=1e6).float()
    z = torch.cat([-join(some_levels(1)), torch.zeros(1, 7, 4, 4)]).requires_grad_()
    score = objective(z)
    score.sum().backward()
    assert torch.isfinite(score).all()
    assert torch.isfinite(z.grad).all()


@both_kernels
def test_half_precision_maps_are_scored_in_full(kernel: str) -> None:
    objective = fitted(some_levels(0), kernel=kernel).float()
    z = join(some_levels(1)).half()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        score = objective(z)
    assert score.dtype == torch.float32
    torch.testing.assert_close(score, objective(z.float()))


@both_kernels
def test_state_dict_round_trip(kernel: str) -> None:
    trained, z = fitted(some_levels(0), kernel=kernel), join(some_levels(1))
    fresh = OCSVM(kernel=kernel).double()
    fresh.load_state_dict(trained.state_dict())
    assert torch.equal(fresh(z), trained(z))


def test_features_of_one_value_are_the_users_to_mend() -> None:
    objective = OCSVM()
    objective.observe([torch.ones(5, 12, 1, 1)])
    with pytest.raises(InputError, match=r"^scale: .* same value in every channel"):
        objective.finish(Identity([12]))


def test_another_projector_is_refused() -> None:
    objective = OCSVM()
    objective.observe(some_levels(0))
    with pytest.raises(InputError, match="use the projector Identity"):
        objective.finish(Conv1x1(CHANNELS))


@pytest.mark.parametrize(
    ("name", "value"),
    [("kernel", "poly"), ("nu", 0), ("nu", 1), ("samples", 0), ("scale", 0), ("chunk", 0)],
)
def test_bad_arguments_are_named(name: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"^{name} must be "):
        OCSVM(**{name: value})


def half_of_the_batches(rank: int) -> None:
    batches = [some_levels(seed) for seed in range(4)]
    train, z = torch.cat([rows(join(batch)) for batch in batches]), join(some_levels(9))
    for kernel in ("linear", "rbf"):
        objective = fitted(*batches[rank::2], kernel=kernel)
        expected = plain(train.numpy(), rows(z).numpy(), kernel, 0.5, 10)
        # the solver stops when it is near enough, by the order of the vectors
        np.testing.assert_allclose(objective(z).flatten(), expected, rtol=1e-2, atol=1e-3)
        assert torch.equal(*all_gathered(objective.support[None]))


def test_two_processes_fit_the_whole(tmp_path: Path) -> None:
    in_two_processes(half_of_the_batches, tmp_path)


@both_kernels
def test_a_checkpoint_scores_as_its_run_did(kernel: str, tmp_path: Path) -> None:
    written, loaded = run_and_load(tmp_path, f"loss=ocsvm_{kernel}", "loss.samples=100")
    torch.testing.assert_close(loaded, written, rtol=1e-4, atol=1e-5)
