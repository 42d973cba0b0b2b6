"""Learning image by image compared with the batch fit and with a plain float64 computation."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import expm
from torch import Tensor

from occ_lab.detector import Detector
from occ_lab.engine.online import Online
from occ_lab.features.levels import join
from occ_lab.objectives.knn import KNN
from occ_lab.objectives.norm.closed_form import initial_moment
from occ_lab.objectives.norm.objective import Norm
from occ_lab.projectors import Conv1x1, Identity
from occ_lab.utils.errors import InputError

CHANNELS = [4, 6]


def images(count: int, seed: int = 0) -> list[list[Tensor]]:
    """Levels of ``count`` similar images, each ``[1, C_l, H_l, W_l]``."""
    generator = torch.Generator().manual_seed(seed)
    mix = torch.randn(10, 3, generator=generator)
    found = []
    for _ in range(count):
        f = torch.einsum("cr,rhw->chw", mix, torch.randn(3, 8, 8, generator=generator)) + 1
        f += 0.1 * torch.randn(10, 8, 8, generator=generator)
        found.append([f[None, :4], torch.nn.functional.avg_pool2d(f[None, 4:], 2)])
    return found


def detector(**arguments: object) -> Detector:
    torch.manual_seed(0)
    objective = Norm(10, **{"cell": None, "bias": "flow", "time": 3.0, **arguments})  # type: ignore[arg-type]
    normalize = bool(arguments.get("normalize"))
    projector = Conv1x1(CHANNELS, normalize=normalize)
    return Detector(torch.nn.Identity(), objective, projector)  # type: ignore[arg-type]


def learned(stream: list[list[Tensor]], **arguments: object) -> tuple[Online, Detector]:
    made = detector(**arguments)
    online = Online(made)
    for levels in stream:
        online.learn(levels)
    online.solve()
    return online, made


def batch_fit(stream: list[list[Tensor]], **arguments: object) -> Detector:
    made = detector(**arguments)
    objective = made.objective
    for start in range(0, len(stream), 4):
        part = stream[start : start + 4]
        objective.observe([torch.cat(level) for level in zip(*part, strict=True)])
    objective.finish(made.projector)
    return made


def plain_scores(
    stream: list[list[Tensor]], tested: list[Tensor], weights: list[float], time: float = 3.0
) -> Tensor:
    """Scores in float64 by the matrix exponential, each image of the stream with its weight."""

    def lifted(levels: list[Tensor]) -> Tensor:
        f = join([level.double() for level in levels]).permute(0, 2, 3, 1).flatten(0, 2)
        return torch.cat([f, torch.ones(len(f), 1, dtype=torch.float64)], dim=1)

    sigma, total = torch.zeros(11, 11, dtype=torch.float64), 0.0
    for levels, weight in zip(stream, weights, strict=True):
        f = lifted(levels)
        sigma += weight * f.T @ f
        total += weight * len(f)
    sigma /= total
    left = torch.from_numpy(expm(-time * (sigma / sigma.diagonal().mean()).numpy()))
    prior = initial_moment(10, 10) * torch.eye(11, dtype=torch.float64)
    prior[-1, -1] += 1.0  # the squared norm of the target
    f = lifted(tested) @ left
    return (f @ prior * f).sum(dim=1).sqrt().view(1, 8, 8)


@pytest.mark.parametrize("count", [1, 2, 9])
@pytest.mark.parametrize("normalize", [False, True])
def test_the_last_state_is_the_batch_fit(count: int, normalize: bool) -> None:
    stream, (tested,) = images(count), images(1, seed=9)
    _, online = learned(stream, normalize=normalize)
    batch = batch_fit(stream, normalize=normalize)
    torch.testing.assert_close(
        online.score_levels(tested), batch.score_levels(tested), rtol=1e-5, atol=1e-6
    )
    halves = (made.objective.moments.halves for made in (online, batch))
    for one, two in zip(*halves, strict=True):
        torch.testing.assert_close(one.total, two.total, rtol=1e-5, atol=1e-4)


def test_it_equals_the_matrix_exponential_in_double_precision() -> None:
    stream, (tested,) = images(7), images(1, seed=9)
    _, online = learned(stream)
    expected = plain_scores(stream, tested, [1.0] * 7)
    torch.testing.assert_close(online.score_levels(tested).double(), expected, rtol=1e-4, atol=1e-5)


def test_what_is_forgotten_counts_half_after_a_half_life() -> None:
    stream, (tested,) = images(6), images(1, seed=9)
    made = detector()
    online = Online(made, half_life=2)
    for levels in stream:
        online.learn(levels)
    online.solve()
    weights = [0.5 ** (age / 2) for age in (5, 4, 3, 2, 1, 0)]
    assert online.weight == pytest.approx(sum(weights))
    expected = plain_scores(stream, tested, weights)
    torch.testing.assert_close(made.score_levels(tested).double(), expected, rtol=1e-4, atol=1e-5)
    _, unforgetful = learned(stream)
    assert not torch.allclose(
        made.score_levels(tested), unforgetful.score_levels(tested), rtol=1e-3
    )


@settings(deadline=None, max_examples=20)
@given(
    cut=st.integers(1, 8),
    refresh=st.sampled_from([0.0, 0.3]),
    half_life=st.sampled_from([None, 3.0]),
)
def test_a_state_goes_on_to_the_last_bit(cut: int, refresh: float, half_life: float | None) -> None:
    stream = images(9)

    def follow(online: Online, made: Detector, part: list[list[Tensor]]) -> list[Tensor]:
        scores = []
        for levels in part:
            if online.due:
                online.solve()
            scores.append(made.score_levels(levels))
            online.learn(levels)
        return scores

    whole = detector(time="auto")
    expected = follow(Online(whole, half_life, refresh), whole, stream)
    first = detector(time="auto")
    stopped = Online(first, half_life, refresh)
    follow(stopped, first, stream[:cut])
    second = detector(time="auto")
    resumed = Online(second, half_life, refresh)
    resumed.restore(stopped.state())
    found = follow(resumed, second, stream[cut:])
    for ours, theirs in zip(found, expected[cut:], strict=True):
        assert torch.equal(ours, theirs)
    assert resumed.images == 9


def test_merged_states_are_one_stream() -> None:
    stream, (tested,) = images(9), images(1, seed=9)
    parts = [learned(part)[0].state() for part in (stream[:4], stream[4:])]
    made = detector()
    merged = Online(made)
    merged.merge(parts)
    assert merged.due
    merged.solve()
    assert (merged.images, merged.weight) == (9, 9)
    expected = plain_scores(stream, tested, [1.0] * 9)
    torch.testing.assert_close(made.score_levels(tested).double(), expected, rtol=1e-4, atol=1e-5)


def test_lazily_it_solves_once_a_fraction_of_the_images_is_new() -> None:
    online = Online(detector(), refresh=0.25)
    solved = []
    for index, levels in enumerate(images(20), start=1):
        online.learn(levels)
        if online.due:
            online.solve()
            solved.append(index)
    assert solved == [1, 2, 3, 4, 6, 8, 11, 15, 20]


def test_time_is_chosen_again_whenever_the_images_have_doubled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    chosen, choose = [], Norm.choose_time

    def noted(self: Norm, projector: Conv1x1) -> dict[float, float]:
        chosen.append(self.moments.seen)
        return choose(self, projector)

    monkeypatch.setattr(Norm, "choose_time", noted)
    online = Online(detector(time="auto"))
    for levels in images(9):
        online.learn(levels)
        online.solve()
    assert chosen == [1, 2, 4, 8]


def test_only_the_closed_form_learns_online() -> None:
    made = detector(solver="gradient")
    with pytest.raises(InputError, match="solver=closed_form can be updated"):
        Online(made)
    made.objective = KNN()
    with pytest.raises(InputError, match="solver=closed_form can be updated"):
        Online(made)
    made = detector()
    made.projector = Identity(CHANNELS)
    with pytest.raises(InputError, match="Conv1x1"):
        Online(made)


@pytest.mark.parametrize(("name", "value"), [("half_life", 0), ("refresh", -1), ("refresh", 2)])
def test_numbers_out_of_range(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=name):
        Online(detector(), **{name: value})
